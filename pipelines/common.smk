# Functions for inputs and commands of the rules.


def images():
    """All images, each once."""
    parts = [part for _, parts in BATCHES.values() for part in parts.values()]
    return sorted({path for paths in parts for path in paths})


def batch(wildcards):
    """The images of one job."""
    return BATCHES[wildcards.results][1][int(wildcards.part)]


def segmented(results):
    """Marks of the segment jobs of a folder of results that are done, their declared outputs."""
    count, parts = BATCHES[results]
    return [f"{results}/logs/segment.{part}-of-{count}.done" for part in parts]


def given(models):
    """Those of these files of models that the workflow does not train."""
    trained = {use.model for use in TRAINED.values()}
    return [path for path in models if path not in trained]


def model_of(results, input):
    """The model's file: the input, or the path in the settings if Snakemake cannot name it."""
    return input.get("model") or FILES[results]
