"use strict";
// Tables whose headings sort them. Without it, everything is there all the same.
(() => {
  const numberOf = (text) => {
    const found = text.replace("−", "-").match(/[-+]?\d+(\.\d+)?([eE][-+]?\d+)?/);
    return found ? Number(found[0]) : NaN;
  };
  const textOf = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const compare = (left, right, numeric) => {
    if (!numeric) return left.localeCompare(right, "en", { numeric: true });
    const [first, second] = [numberOf(left), numberOf(right)];
    if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
    // "< 0.0001" comes before 0.0001.
    return first - second || right.startsWith("<") - left.startsWith("<");
  };
  const sort = (table, column, heading) => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const numeric = !heading.classList.contains("words");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, text: textOf(row, column) }));
    const isAbsent = ({ text }) => text === "" || text === "-" || (numeric && Number.isNaN(numberOf(text)));
    rows.sort((left, right) => {
      if (isAbsent(left) !== isAbsent(right)) return isAbsent(left) - isAbsent(right);
      const order = compare(left.text, right.text, numeric);
      return (falling ? -order : order) || left.place - right.place;
    });
    body.append(...rows.map(({ row }) => row));
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, column, heading));
    });
  }
})();
