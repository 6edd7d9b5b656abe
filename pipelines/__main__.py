"""Print the path of the workflow."""

from unetbio.pipelines import SNAKEFILE

__all__: list[str] = []

if __name__ == "__main__":
    print(SNAKEFILE)
