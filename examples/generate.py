"""Generate with a draft that works while the target checks, and see what that was worth."""

from specbranch import Engine, SamplingParams, load_pair, make_policy

pair = load_pair("builtin:smollm2", draft="self:int4")
params = SamplingParams(temperature=0.7, top_p=0.95, seed=1, max_new_tokens=64)

with Engine(pair, make_policy("specbranch")) as engine:
    stream = engine.stream("Explain in two sentences why the sky is blue.", params)
    for chunk in stream:
        print(chunk.text, end="", flush=True)

stats = stream.generation.stats
print(f"\n{stats.tokens_per_s:.1f} tok/s, {stats.mean_accepted_length:.2f} tokens per forward")
