"""What forwards cost: supposed, published or measured before (`model`), learnt while they run
(`learnt`), and timed on a machine (`training.pair_timer`).

Two functions of the rows, which differ on purpose towards few rows. `RowCosts` is flat there: what
was not measured gets no cheaper. `RowTimes` falls a little: so a policy that grows by cost tries
fewer rows than it has seen, where they matter least, and is corrected by what they take.
"""
