"""A dataset of images from the Hugging Face Hub, or a local folder of one: the only door to `datasets`.

`location` is a repository ("user/name") or a folder: a downloaded repository, what `save_to_disk` wrote, or anything
else that `load_dataset` reads as Arrow, CSV, JSON, Parquet, text, WebDataset or a folder of images. Options, all of
them optional:

    config, data_dir   as in `load_dataset`
    splits             the names of the splits to take (all)
    image              the column of the pictures (the only Image, or else the only struct of bytes and path)
    label              the column of the labels ("label", or else the only one of type ClassLabel)
    columns            the further columns to take (all); picture and label are taken in any case
    drop_columns       columns to leave out, instead
    streaming          read in order without downloading everything (False)
    follow_links       of a folder: read what links that lead out of it lead to (False)

A dataset may name files: a row its picture, a card its shards. Files of its own folder, archives or repository (at the
same commit) are read, a relative path being one from its folder; any other path or address is not opened: of a row it
is a skipped picture, of a list of files an error.

Pictures are read as the bytes of their files, so that the hash is the file's. Labels: class numbers keep the source's
names as they are; texts and bare numbers become classes in sorted order; None and negative numbers are no label; what
is no single label stays a further column. A class number without a name is an error. Further columns pass through with
their types, but for media (pictures, sound, video), which are left out; one that is named like a column of ours is
renamed to "source_" and its name.

Ids: the paths of the pictures where all have one and rows can be had in any order; "<split>/<row>" otherwise. Then, and
where several pictures have one path, what is added to a dataset must lie behind what it holds (see `PlacedSplit`).
"""

from latentstore.sources.hub_images.reader import open_hub_images

__all__ = ["open_hub_images"]
