"""What forwards cost: supposed, published or measured before (`model`), learnt while they run
(`learnt`), and timed on a machine (`training.pair_timer`).

Two functions of the rows, which differ on purpose where nothing was measured. `RowCosts` goes on
as between the last two measured row counts: a virtual clock must not give rows away. `RowTimes`
goes on flat: more rows than were ever seen look free to a policy that grows by cost, which tries
them therefore, and is corrected by what they take.
"""
