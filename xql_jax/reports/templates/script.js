"use strict";
// Sorting, filtering, opening what a link leads to, and colours. Without it the page can still be read.

for (const button of document.querySelectorAll("table.rows th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}

function sort(header) {
  const table = header.closest("table");
  const body = table.tBodies[0];
  const column = header.cellIndex;
  const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", other === header ? order : "none");
  }
  const rows = Array.from(body.rows, (row) => ({ row, key: keyOf(row.cells[column]) }));
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((one, other) => {
    if (one.key === "" || other.key === "") return (one.key === "") - (other.key === ""); // nothing comes last
    return sign * compare(one.key, other.key);
  });
  body.append(...rows.map(({ row }) => row));
}

function keyOf(cell) {
  return cell.dataset.key ?? cell.textContent.trim();
}

function compare(one, other) {
  const difference = Number(one) - Number(other);
  return Number.isNaN(difference) ? one.localeCompare(other, "en", { numeric: true }) : difference;
}

const filter = document.getElementById("filter");
const told = document.getElementById("told");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("table.rows tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  told.textContent = words.length ? `${shown} rows shown` : "";
});

function openPlace() {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!place || !["DETAILS", "TD"].includes(place.tagName)) return; // to the others the browser goes itself
  for (const row of place.closest("tr[hidden]") ? [place.closest("tr")] : []) row.hidden = false;
  for (let element = place; element; element = element.parentElement) {
    if (element instanceof HTMLDetailsElement) element.open = true;
  }
  for (const details of place.tagName === "TD" ? place.querySelectorAll("details") : []) details.open = true;
  place.scrollIntoView();
  const first = place.querySelector("summary, a");
  if (first) first.focus({ preventScroll: true });
}
window.addEventListener("hashchange", openPlace);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) openPlace(); // the same place once more: no hashchange
});
if (location.hash) openPlace();

const THEMES = { auto: "as the system", light: "light", dark: "dark" };
const theme = document.getElementById("theme");
theme.hidden = false;

function setTheme(name) {
  theme.textContent = `Colours: ${THEMES[name]}`;
  theme.dataset.theme = name;
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("xql-report-theme", name);
  } catch {} // a page from a file may keep nothing
}

theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(theme.dataset.theme) + 1) % names.length]);
});
let kept = "auto";
try {
  kept = localStorage.getItem("xql-report-theme") ?? "auto";
} catch {}
setTheme(kept in THEMES ? kept : "auto");

if ("live" in document.body.dataset) {
  document.getElementById("refresh").addEventListener("click", () => location.reload());
  let first = null;
  const look = async () => {
    try {
      const answer = await fetch("/stamp", { cache: "no-store" });
      const stamp = await answer.text();
      if (!answer.ok) return;
      first ??= stamp;
      if (stamp !== first) told.textContent = "There are new results: refresh to see them.";
    } catch {
      told.textContent = "The server has ended: this is what it last showed.";
    }
  };
  look();
  setInterval(() => document.hidden || look(), 5000);
}
