"""A folder a class, below the author's own train, val and test folders where all the top folders are called so."""

from components.data.sources.places import Place
from components.data.sources.source import PARTS_BY_NAME, Source, SourceImage


def from_folder(place: Place, files: list[str]) -> Source:
    """`files` are those of the place."""
    paths = [(path, path.split("/")) for path in files]
    top = {parts[0].lower() for _, parts in paths if len(parts) > 1}
    with_parts = bool(top) and top <= set(PARTS_BY_NAME)
    class_depth = 2 if with_parts else 1
    images, left_aside = [], []
    for path, parts in paths:
        if len(parts) <= class_depth:
            left_aside.append(path)
            continue
        images.append(
            SourceImage(
                path=path,
                labels=(parts[class_depth - 1],),
                given_split=PARTS_BY_NAME[parts[0].lower()] if with_parts else None,
                read=place.reader(path),
                problem=place.problem_of(path),
            )
        )
    return Source(images, left_aside=left_aside)
