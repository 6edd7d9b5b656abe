# What the inputs and commands of the rules are worked out with.


def images():
    """All images, each once."""
    parts = [part for _, parts in BATCHES.values() for part in parts.values()]
    return sorted({path for paths in parts for path in paths})


def batch(wildcards):
    """The images of one job."""
    return BATCHES[wildcards.results][1][int(wildcards.part)]


def journals(results):
    """What the segment jobs of a folder of results declare."""
    count, parts = BATCHES[results]
    return [f"{results}/run.{part}-of-{count}.jsonl" for part in parts]


def model_of(results, input):
    """The model's file: the input, or, where Snakemake cannot name it, as the settings have it."""
    return input.get("model") or FILES[results]
