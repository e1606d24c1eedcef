"use strict";
// What makes the page live: tables that sort, figures that say their values, a zoom, contents that follow the reader, copies.
// Texts are only ever set as texts, and nothing is loaded.

const make = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const draw = (name, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// Tables

const LAST = Number.POSITIVE_INFINITY; // where a cell without a number goes

function key(text) {
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/^[^\d-]{0,2}(-?\d+(?:\.\d+)?)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/);
  if (!found) return null;
  const power = (found[2] || "").replaceAll("⁻", "-").replace(/[⁰¹²³⁴⁵⁶⁷⁸⁹]/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(digit));
  return Number(found[1]) * 10 ** Number(power || 0);
}

function sort(table, column, header) {
  const rising = header.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...body.rows];
  const numbers = rows.filter((row) => text(row)).every((row) => key(text(row)) !== null);
  const compare = numbers
    ? (a, b) => (key(text(a)) ?? LAST) - (key(text(b)) ?? LAST)
    : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
  rows.sort((a, b) => (!text(a) - !text(b)) || (rising ? compare(a, b) : compare(b, a))); // empty cells stay below
  body.append(...rows);
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

function sortable(table) {
  const headers = [...(table.tHead?.rows[0]?.cells ?? [])];
  if (table.tBodies.length !== 1 || table.tBodies[0].rows.length < 2) return;
  headers.forEach((header, column) => {
    const button = make("button", { type: "button", title: "Sort", click: () => sort(table, column, header) });
    button.append(...header.childNodes);
    header.append(button);
  });
}

// Copies

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "aside" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = said), 1500);
}

function copyable(element, place, text) {
  const button = make("button", { type: "button", class: "file", click: () => copy(text(), button) }, "Copy");
  place.append(button);
}

const cells = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t")).join("\n");

// Figures: the value nearest to the pointer, or the one that the arrow keys have come to. `points`: [x, y, text], in shares of the box;
// up and down go `across` of them.

function pointing(box, points, tip, across = 1) {
  let at = -1;
  const show = (index) => {
    at = index;
    const [x, y, said] = points[index];
    tip.textContent = said;
    tip.hidden = false;
    dot.hidden = false;
    dot.style.left = `${100 * x}%`;
    dot.style.top = `${100 * y}%`;
    tip.style.top = `${100 * y}%`;
    const room = box.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, x * box.clientWidth - tip.offsetWidth / 2))}px`;
    tip.classList.toggle("below", y * box.clientHeight < tip.offsetHeight + 12);
  };
  const hide = () => {
    at = -1;
    tip.hidden = true;
    dot.hidden = true;
  };
  const dot = make("span", { class: "dot", hidden: true });
  box.append(dot);
  const nearest = (event) => {
    const frame = box.getBoundingClientRect();
    const far = points.map(([x, y]) => Math.hypot(x * frame.width + frame.left - event.clientX, y * frame.height + frame.top - event.clientY));
    const best = far.indexOf(Math.min(...far));
    if (far[best] < 30) show(best);
    else hide();
  };
  box.addEventListener("pointermove", nearest);
  box.addEventListener("pointerdown", nearest);
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: across, ArrowLeft: -1, ArrowUp: -across }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at < 0 ? 0 : (at + step + points.length) % points.length);
  });
  return () => at;
}

function picture(image) {
  const points = JSON.parse(image.dataset.points || "[]");
  const tip = make("span", { class: "tip", role: "status", hidden: true });
  const box = make("span", { class: "picture" }, tip);
  image.replaceWith(box);
  box.prepend(image);
  if (points.length) {
    fill(box, { tabindex: 0, role: "group", "aria-label": "Figure; arrow keys go through its values" }, []);
    pointing(box, points, tip);
  }
  return box;
}

function zoom(image) {
  const large = image.cloneNode();
  const pane = make("div", { class: "pane" }, large);
  let width = 100; // per cent of the pane
  const size = (by) => {
    width = Math.max(30, Math.min(800, width * by));
    pane.firstChild.style.width = `${width}%`;
  };
  const dialog = make("dialog", { class: "zoom", "aria-label": "Figure", close: () => dialog.remove() },
    make("div", { class: "bar" },
      make("button", { type: "button", click: () => size(1.5) }, "Larger"),
      make("button", { type: "button", click: () => size(1 / 1.5) }, "Smaller"),
      make("button", { type: "button", click: () => dialog.close() }, "Close")),
    pane);
  document.body.append(dialog);
  picture(large);
  dialog.showModal();
  const fits = (image.naturalWidth / image.naturalHeight) * (pane.clientHeight - 60) / pane.clientWidth;
  size(window.innerWidth < 700 ? 2.25 : Math.min(1, fits));
}

function figure(element) {
  const image = element.querySelector("img");
  const caption = element.querySelector("figcaption");
  picture(image);
  if (!caption) return;
  const link = caption.querySelector("a.file");
  if (link) { // the picture that is here, wherever the page was moved to
    link.download = link.getAttribute("href").split("/").pop();
    link.href = image.src;
  }
  caption.append(" ", make("button", { type: "button", class: "file", click: () => zoom(image) }, "Zoom"));
}

// Contents: where the reader is. Where the window has no room for them beside the text they are a bar that folds out.

function follow(nav) {
  const [box, here] = [nav.querySelector("details"), nav.querySelector(".here")];
  const beside = matchMedia("(min-width: 84rem)");
  const fold = () => (box.open = beside.matches);
  nav.classList.add("follows");
  beside.addEventListener("change", fold);
  nav.addEventListener("click", (event) => event.target.closest("a") && fold());
  nav.addEventListener("keydown", (event) => event.key === "Escape" && fold());
  fold();
  const links = new Map([...nav.querySelectorAll("a")].map((link) => [link.getAttribute("href").slice(1), link]));
  const heads = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let waiting = false;
  const mark = () => {
    waiting = false;
    const current = heads.filter((head) => head.getBoundingClientRect().top < 120).pop();
    for (const [id, link] of links) {
      if (current && id === current.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    here.textContent = (!beside.matches && links.get(current?.id)?.textContent) || "";
  };
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();
}

// Paper shows what is folded away

function unfold() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
}

for (const table of document.querySelectorAll("table")) sortable(table);
for (const box of document.querySelectorAll(".scroll")) {
  if (box.scrollWidth > box.clientWidth) fill(box, { tabindex: 0, role: "region", "aria-label": "Table, scrolls" }, []);
}
for (const block of document.querySelectorAll("pre")) {
  const place = make("div", { class: "bar" });
  block.before(place);
  copyable(block, place, () => block.textContent);
}
for (const element of document.querySelectorAll("figure.tabular")) {
  const caption = element.querySelector("figcaption");
  caption.append(" ");
  copyable(element, caption, () => cells(element.querySelector("table")));
}
for (const element of document.querySelectorAll("figure:not(.tabular)")) if (element.querySelector("img")) figure(element);
follow(document.querySelector("nav"));
unfold();
