"""A shop's folder as people send it: two tables and photos, with everything wrong that is worth surviving."""

import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from seqmm.data.item_files import file_stem

USERS, LENGTH = 40, 8
ODD = ("007", "A/B 1", "猫-3", " padded ", "x_2", "..", "50%", "é,;")
"""Item ids; the last needs quotes in a table."""


@dataclass
class Shop:
    """What is in the folder, for tests to compare with."""

    items: list[str]
    """Ids that have interactions and a row in the items table."""
    rows: list[tuple[str, str, str]]
    """Complete interactions: user, item, time."""
    incomplete: int
    """Rows without user, item or time, empty lines included."""
    unknown: str
    """An item with interactions and no row in the items table."""
    twice: str
    """An item with two rows."""
    unused: tuple[str, ...]
    """Items nobody had."""
    without_image: list[str]
    broken: list[str]
    """Items whose image is no image."""


def write_shop(folder: Path, seed: int = 0) -> Shop:
    """Writes interactions.csv (byte order mark, CRLF, semicolons, empty lines), items.csv and images/."""
    rng = random.Random(seed)
    items = [*ODD, *(f"sku-{n:03}" for n in range(12))]
    unknown, twice, unused = "not in the table", items[2], ("sku-900", "sku-901")
    rows = []
    for number in range(USERS):
        user = f"customer {number:03}"
        chosen = rng.sample([*items, unknown], LENGTH)
        rows += [(user, item, f"2024-03-{day + 1:02} 10:00:00") for day, item in enumerate(chosen)]
    rng.shuffle(rows)

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',;"\n\r') else text

    lines = ["customer;sku;rating;when", *(";".join(map(cell, (user, item, "5", time))) for user, item, time in rows)]
    lines[5:5] = [
        "",
        ";;;",
        "customer 001;;5;2024-03-09 10:00:00",
        ";sku-003;5;2024-03-09 10:00:00",
        "",
        "customer 002;sku-001;4;",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n").encode())

    long = "The material is soft. " * 4700  # 100 kB
    descriptions = {
        items[0]: "<p>A <b>red</b> ball &amp; a net.</p><ul><li>soft</li><li>light</li></ul><script>x < 1</script>",
        items[1]: long,
        items[2]: "猫のおもちゃ。とても柔らかい。 🎧 Для кота. للقطط",
        items[3]: 'He said: "what; a toy, really"\nSecond line.',
        items[4]: "",
    }
    table = ["sku,name,brand,about,photo"]
    for number, item in enumerate([*items, *unused, twice]):
        about = descriptions.get(item, f"A toy of kind {number % 4}. It is {'blue' if number % 2 else 'red'}.")
        name = "" if number == 4 else f"Toy {number % 4} no. {number}"
        table.append(",".join(map(cell, (item, name, f"Brand {number % 3}", about, ""))))
    table[7:7] = ["", ",a row without an id,,,"]
    (folder / "items.csv").write_bytes(("\ufeff" + "\r\n".join(table) + "\r\n").encode())

    images = folder / "images"
    images.mkdir()
    broken, without_image = items[8:10], items[10:12]
    for number, item in enumerate(items):
        if item in without_image:
            continue
        suffix, mode = ((".jpg", "RGB"), (".png", "RGBA"), (".gif", "P"), (".jpg", "CMYK"))[number % 4]
        file = images / (file_stem(item) + suffix)
        if item in broken:
            file.write_bytes(b"" if item == broken[0] else b"\xff\xd8\xff\xe0 cut off")
        else:
            colour = (200, 40, 40) if number % 2 == 0 else (40, 40, 200)
            Image.new("RGB", (40 + number, 40), colour).convert(mode).save(file)
    Image.new("RGB", (40, 40)).save(images / (file_stem(items[0]) + "_2.jpg"))
    Image.new("RGB", (40, 40)).save(images / "of nothing.jpg")
    (images / "Thumbs.db").write_bytes(b"\0" * 10)
    return Shop(items, rows, 7, unknown, twice, unused, without_image, broken)
