"use strict";

// Sorting: turn the lowest line of headings into buttons. Missing values stay at the end.
function cellValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === "") return null;
  if (value !== undefined) return Number(value);
  const text = cell.textContent.trim();
  return ["-", "–", ""].includes(text) ? null : text;
}

function compareCells(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortTable(table, heading, column) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const entries = Array.from(body.rows, (row, place) => ({ row, place, value: cellValue(row, column) }));
  entries.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
    const order = compareCells(a.value, b.value);
    return (descending ? -order : order) || a.place - b.place;
  });
  body.append(...entries.map((entry) => entry.row));
}

function lowestHeadings(table) {
  const first = Array.from(table.tHead.rows[0].cells);
  if (table.tHead.rows.length === 1) return first;
  return [...first.filter((cell) => cell.rowSpan > 1), ...table.tHead.rows[1].cells];
}

for (const table of document.querySelectorAll("table.sortable")) {
  lowestHeadings(table).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortTable(table, heading, column));
    heading.append(button);
  });
}

// Pictures: show two crops, one over the other, with a divider between them.
function fill(select, tiles, chosen) {
  const groups = new Map();
  tiles.forEach((tile, place) => {
    const name = tile.dataset.group;
    if (!groups.has(name)) {
      const group = document.createElement("optgroup");
      group.label = name;
      groups.set(name, group);
      select.append(group);
    }
    groups.get(name).append(new Option(tile.dataset.title, place, false, place === chosen));
  });
}

function setUpComparison(picture) {
  const tiles = Array.from(picture.querySelectorAll("img[data-title]"));
  const box = picture.querySelector(".compare");
  if (tiles.length < 2) return;
  const [left, right, errors, over, under, range] = [".left", ".right", ".errors", ".over", ".under", "[type=range]"].map(
    (name) => box.querySelector(name)
  );
  fill(left, tiles, tiles.length > 2 ? 2 : 1);
  fill(right, tiles, 0);
  const show = (image, select) => {
    const tile = tiles[select.value];
    image.src = (errors.checked && tile.dataset.error) || tile.getAttribute("src");
    image.alt = `${tile.dataset.title}, ${tile.dataset.group}`;
  };
  const divide = () => {
    over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    box.style.setProperty("--divider", `${range.value}%`);
    range.setAttribute("aria-valuetext", `left picture up to ${range.value} %`);
  };
  const update = () => {
    show(over, left);
    show(under, right);
  };
  for (const control of [left, right, errors]) control.addEventListener("change", update);
  range.addEventListener("input", divide);
  const stage = box.querySelector(".stage");
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && !event.buttons) return;
    const frame = stage.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - frame.left)) / frame.width);
    divide();
  });
  update();
  divide();
  box.hidden = false;
}

document.querySelectorAll(".picture").forEach(setUpComparison);

// A printed page cannot be opened or scrolled, so open and load everything.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
  for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
});
