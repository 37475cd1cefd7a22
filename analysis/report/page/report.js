"use strict";
document.documentElement.classList.add("js");

// Sorting: numbers by their exact value, empty fields last, equal rows as they were.
function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const numeric = header.classList.contains("n");
  const key = (row) => {
    const field = row.cells[column];
    if (numeric) return "key" in field.dataset ? Number(field.dataset.key) : null;
    return field.textContent;
  };
  const order = new Intl.Collator("en", { numeric: true });
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (numeric ? a - b : order.compare(a, b)) * (descending ? -1 : 1);
  });
  body.append(...rows.map(([, row]) => row));
}

// Filtering: a row stays if it has every word. `column=value` asks for the whole field (value without spaces).
function filter(input) {
  const table = document.getElementById(input.dataset.table);
  const columns = [...table.tHead.rows[0].cells].map((header) => header.textContent.trim());
  const words = input.value.split(/\s+/).filter(Boolean);
  const has = (row, word) => {
    const column = columns.findIndex((name) => word.startsWith(`${name}=`));
    if (column < 0) return row.textContent.toLowerCase().includes(word.toLowerCase());
    const field = row.cells[column];
    const value = word.slice(columns[column].length + 1);
    return field.textContent.replace(/\s+/g, "") === value || ("key" in field.dataset && Number(field.dataset.key) === Number(value));
  };
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !words.every((word) => has(row, word));
  const left = rows.filter((row) => !row.hidden).length;
  input.closest("p").querySelector("output").textContent = words.length ? `${left} of ${rows.length} rows` : "";
}

// A link into a table opens it, and shows the row even if a filter had hidden it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const folded = target.closest("details");
  if (folded) folded.open = true;
  if (target.hidden) {
    const input = document.querySelector(`input[data-table="${CSS.escape(target.closest("table").id)}"]`);
    input.value = "";
    filter(input);
  }
  target.scrollIntoView({ block: "center" });
}

for (const header of document.querySelectorAll("th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}
for (const input of document.querySelectorAll("input[data-table]")) {
  input.addEventListener("input", () => filter(input));
}
for (const link of document.querySelectorAll("a.behind")) {
  link.addEventListener("click", () => {
    const input = document.querySelector('input[data-table="runs-table"]');
    input.value = link.dataset.filter;
    filter(input);
  });
}
const large = document.getElementById("large");
for (const button of document.querySelectorAll("button.enlarge")) {
  button.addEventListener("click", () => {
    const small = button.querySelector("img");
    large.querySelector("img").src = small.src;
    large.querySelector("img").alt = small.alt;
    large.showModal();
  });
}
large.querySelector(".close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
window.addEventListener("hashchange", reveal);
reveal();
