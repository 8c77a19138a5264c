"""What panels and legends call runs that are compared."""


def distinct(runs: list[str]) -> dict[str, str]:
    """Run -> the words of its name that tell it from the others: of "set cellvta@mini,… fold 3 seed 0" the method.

    A method goes without its row and settings where all stay different without them. A single run keeps its name.

    Args:
        runs: names as `RunId` prints them.
    """
    words = {name: name.split(" ") for name in runs}
    if len(words) < 2 or len({len(each) for each in words.values()}) > 1:
        return {name: name for name in runs}
    columns = list(zip(*words.values()))
    differ = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    short = {name: [each[i] for i in differ] for name, each in words.items()}
    bare = {name: [word.partition("@")[0] for word in each] for name, each in short.items()}
    best = bare if len({tuple(each) for each in bare.values()}) == len(bare) else short
    # "3" alone says nothing: the number keeps the word before it
    labels = {}
    for name, each in best.items():
        texts = [f"{words[name][i - 1]} {word}" if word.isdecimal() and i else word for i, word in zip(differ, each)]
        labels[name] = " ".join(texts)
    return labels
