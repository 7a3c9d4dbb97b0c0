"""Check and align LR/HR pairs of a camera. In: two folders of images. Out: a verdict with a page, or aligned pairs."""
