// The API reference: a search, and examples with the address of this service. Without this script, nothing is missing.

const EXAMPLE = "http://127.0.0.1:8080"; // the default address, which the examples have
const main = document.querySelector("main");
const input = document.getElementById("search");
const found = document.getElementById("found");
const blocks = [...main.querySelectorAll(":scope > :not(h1, h2, h3, .table), .table tbody tr")];

const own = location.origin + document.documentElement.dataset.base;
for (const code of main.querySelectorAll("code")) code.textContent = code.textContent.replaceAll(EXAMPLE, own);

document.querySelector("search").hidden = false;
input.addEventListener("input", search);

// Hides what does not contain every word, and the headings and tables that are then empty.
function search() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  let heading = "";
  let isNamed = false; // whether the heading contains every word, so that all of its section is shown
  for (const element of main.querySelectorAll(":scope > *, .table tbody tr")) {
    if (/^H[1-3]$/.test(element.tagName)) {
      heading = element.textContent.toLowerCase();
      isNamed = words.every((word) => heading.includes(word));
      element.hidden = words.length > 0 && !isNamed;
    }
    if (!blocks.includes(element)) continue;
    const text = element.textContent.toLowerCase();
    element.hidden = !isNamed && !words.every((word) => text.includes(word));
    if (!element.hidden) count += 1;
  }
  for (const table of main.querySelectorAll(".table")) table.hidden = !table.querySelector("tbody tr:not([hidden])");
  showHeadings();
  found.textContent = words.length ? `${count} ${count === 1 ? "part contains" : "parts contain"} this` : "";
}

// A heading is shown if anything below it is.
function showHeadings() {
  const open = []; // the headings above the current element
  for (const element of main.children) {
    const level = Number(element.tagName.match(/^H([1-3])$/)?.[1] ?? 0);
    if (level) {
      while (open.length && open.at(-1).level >= level) open.pop();
      open.push({ level, element });
    }
    if (!element.hidden) for (const heading of open) heading.element.hidden = false;
  }
}
