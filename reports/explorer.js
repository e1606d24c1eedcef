// The explorer: parts are picked on a map, as text, or along removal orders. What was measured is shown first; a sum of single removals
// only beside the errors that such sums made on measured sets. A set of parts is written as Strata prints it: "blocks 3, 5; heads 2.1".

const KINDS = { blocks: "block", mixers: "mixer", ffns: "ffn", heads: "head", experts: "expert" };
const WITHIN = { mixers: ["blocks"], ffns: ["blocks"], heads: ["blocks", "mixers"], experts: ["blocks", "ffns"] }; // what takes a part with it
const PIECE = new RegExp(`^(${Object.values(KINDS).join("|")})s?\\s+([\\d., ]+)$`); // "heads 2.1, 2.3"
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9", "#8C6D31", "#CC79A7", "#777777"];
const DASHES = ["", "6 2", "2 2", "6 2 1 2"];
const FEW = 3; // measured sets below which nothing is known of the error of sums
const CELL = 18; // px

// Sets of parts

const place = (part) => part.split(" ")[1].split(".").map(Number);
const byPlace = (a, b) => place(a)[0] - place(b)[0] || (place(a)[1] ?? 0) - (place(b)[1] ?? 0);

function canonical(parts) {
  const out = new Set(parts);
  for (const part of parts) {
    const [kind, label] = part.split(" ");
    if (kind === "mixers" && out.has(`ffns ${label}`)) out.add(`blocks ${label}`);
  }
  return new Set([...out].filter((part) => !covered(part, out)));
}

function covered(part, out) {
  const [kind, label] = part.split(" ");
  const block = label.split(".")[0];
  return (WITHIN[kind] ?? []).some((whole) => out.has(`${whole} ${block}`));
}

function print(parts) {
  const said = Object.keys(KINDS).map((kind) => {
    const labels = [...parts].filter((part) => part.startsWith(`${kind} `)).sort(byPlace).map((part) => part.split(" ")[1]);
    return labels.length ? `${kind} ${labels.join(", ")}` : "";
  });
  return said.filter(Boolean).join("; ");
}

function parse(text, known) {
  const parts = [];
  for (const piece of text.split(";").map((one) => one.trim()).filter(Boolean)) {
    const [, noun, labels] = piece.match(PIECE) ?? [];
    if (!noun) throw new Error(`“${piece}” is no set of parts: write blocks 3, 5; heads 2.1`);
    parts.push(...labels.split(/[, ]+/).filter(Boolean).map((label) => `${noun}s ${label}`));
  }
  const strange = parts.find((part) => !(part in known));
  if (strange) throw new Error(`the model has no ${strange.replace("s ", " ")}`);
  return canonical(parts);
}

// The same of what was measured; null for what cannot be picked, which stands in the tables alone.
function understood(text, known) {
  try {
    return parse(text, known);
  } catch {
    return null;
  }
}

// Numbers

function number(value) {
  const power = value ? Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3))))) : 2;
  const digits = Math.max(0, 2 - power);
  if (power < -4) {
    const up = String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
    return `${(value / 10 ** power).toFixed(2)}×10${up}`.replace("-", "−");
  }
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}

const signed = (value) => (value > 0 ? "+" : "") + number(value);
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length % 2 ? sorted[(sorted.length - 1) / 2] : (sorted[sorted.length / 2 - 1] + sorted[sorted.length / 2]) / 2;
}

// What is known of a model

class Known {
  constructor(data) {
    Object.assign(this, data); // model, parts, readings
    this.measured = new Map(); // set -> what was measured, most documents first
    for (const reading of [...this.readings].sort((a, b) => b.documents - a.documents)) {
      for (const [out, saved, value, low, high, significant, said] of reading.sets) {
        const parts = understood(out, this.parts);
        if (!parts) continue;
        const one = { out, parts, saved, value, low, high, significant, said, text: reading.text };
        this.measured.set(out, [...(this.measured.get(out) ?? []), one]);
      }
    }
    this.orders = this.readings.flatMap((reading) => reading.orders.map(([title, outs]) => {
      const points = outs.map((out) => this.measured.get(out)?.find((one) => one.text === reading.text)).filter(Boolean);
      return { title, points, text: reading.text };
    })).filter((order) => order.points.length);
    this.tested = [...this.measured.values()].filter(([one]) => one.parts.size > 1).map((found) => this.test(found)).filter(Boolean);
  }

  // The sum of single removals: each as it was read on `text`, where it was, else on the most documents. `texts`: all that were read.
  sum(parts, text) {
    const singles = [...parts].map((part) => this.measured.get(part) ?? []).map((found) => found.find((one) => one.text === text) ?? found[0]);
    if (!singles.length || !singles.every(Boolean)) return null;
    return { value: singles.reduce((total, one) => total + one.value, 0), texts: [...new Set(singles.map((one) => one.text))] };
  }

  // What was measured of a set, and the sum of its single removals. Only on one text (`same`) is their difference a failure to add up.
  test(found) {
    const all = found.map((one) => ({ ...one, sum: this.sum(one.parts, one.text) })).filter((one) => one.sum)
      .map((one) => ({ ...one, same: one.sum.texts.every((text) => text === one.text) }));
    return all.find((one) => one.same) ?? all[0];
  }

  saved(parts) {
    return this.measured.get(print(parts))?.[0].saved ?? [...parts].reduce((sum, part) => sum + this.parts[part], 0);
  }

  // Measured sets that save between half and twice as much: what a sum is off by is known of these alone, best of those on one text.
  alike(saved, out) {
    const all = this.tested.filter((one) => one.out !== out && one.saved >= saved / 2 && one.saved <= 2 * saved);
    const same = all.filter((one) => one.same);
    return same.length < FEW ? all : same;
  }

  // Measured sets that share most with the picked one, by parameters.
  nearest(parts) {
    const halves = (part) => {
      const label = part.split(" ")[1];
      return part.startsWith("blocks") && `mixers ${label}` in this.parts ? [`mixers ${label}`, `ffns ${label}`] : [part];
    };
    const mine = new Set([...parts].flatMap(halves));
    const size = (set) => [...set].reduce((sum, part) => sum + (this.parts[part] ?? 0), 0);
    return [...this.measured.values()].map(([one]) => {
      const theirs = new Set([...one.parts].flatMap(halves));
      const both = [...mine].filter((part) => theirs.has(part));
      return { ...one, shared: size(both) / size(new Set([...mine, ...theirs])) };
    }).filter((one) => one.shared > 0).sort((a, b) => b.shared - a.shared).slice(0, 3);
  }
}

// Axes

function axis(values, from, to) {
  const sizes = values.map(Math.abs).filter(Boolean);
  const usual = sizes.length ? median(sizes) : 1;
  const squashed = Math.max(...sizes, 0) > 10 * usual;
  const bend = squashed ? (value) => Math.asinh(value / usual) : (value) => value;
  const [low, high] = [Math.min(0, ...values), Math.max(...values)].map(bend);
  const at = (value) => from + ((bend(value) - low) / (high - low || 1)) * (to - from);
  const inside = (value) => bend(value) >= low - 1e-12 && bend(value) <= high + 1e-12;
  const powers = [...Array(14).keys()].map((k) => 10 ** (k - 7));
  const step = powers.flatMap((p) => [p, 2 * p, 5 * p]).find((s) => (high - low) / s <= 6);
  const steps = squashed ? [] : [...Array(14).keys()].map((k) => (k + Math.ceil(low / step)) * step);
  const round = squashed ? [0, ...[1, 3].flatMap((m) => [...powers].reverse().flatMap((p) => [m * p, -m * p]))] : steps;
  const ticks = [];
  for (const value of round.filter(inside)) if (ticks.every((other) => Math.abs(at(value) - at(other)) >= 26)) ticks.push(value);
  return { at, ticks, squashed };
}

const plain = (value) => Number(value.toPrecision(6)).toLocaleString("en-US", { maximumFractionDigits: 7 }).replace("-", "−");

// A chart: its axes, and a box whose points say their values and can be picked.
function chart(width, height, label, xs, ys, xlabel, ylabel, xtick) {
  const [left, right, top, bottom] = [54, width - 12, 22, height - 38];
  const x = axis(xs, left, right);
  const y = axis(ys, bottom, top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  for (const value of y.ticks) {
    svg.append(draw("line", { x1: left, x2: right, y1: y.at(value), y2: y.at(value), class: value ? "grid" : "zero" }),
      draw("text", { x: left - 6, y: y.at(value) + 4, "text-anchor": "end" }, plain(value)));
  }
  for (const value of x.ticks) {
    svg.append(draw("line", { x1: x.at(value), x2: x.at(value), y1: bottom, y2: bottom + 4, class: "zero" }),
      draw("text", { x: x.at(value), y: bottom + 17, "text-anchor": "middle" }, xtick(value)));
  }
  svg.append(draw("text", { x: right, y: height - 6, "text-anchor": "end" }, xlabel), draw("text", { x: 4, y: 12 }, ylabel + (y.squashed ? ", compressed scale" : "")));
  return { svg, x: x.at, y: y.at };
}

// A box around an SVG in which points [x, y, text, set] (px) say what they are; a click or Enter hands on the set.
function pickable(svg, width, height, points, name, pick, across) {
  const tip = make("span", { class: "tip", role: "status", hidden: true });
  const box = make("span", { class: "picture", tabindex: 0, role: "group", "aria-label": `${name}; arrow keys go through, Enter picks` }, svg, tip);
  const at = pointing(box, points.map(([x, y, said]) => [x / width, y / height, said]), tip, across);
  const take = () => at() >= 0 && pick(points[at()][3]);
  box.addEventListener("click", take);
  box.addEventListener("keydown", (event) => event.key === "Enter" && take());
  return box;
}

// The map: blocks to the right; a row for whole blocks, mixers and ffns, and one for each head and expert

function shade(share) {
  const [r, g, b] = share > 0 ? [178, 24, 43] : [33, 102, 172];
  const mix = (channel) => Math.round(255 + (channel - 255) * Math.abs(share));
  return `rgb(${mix(r)},${mix(g)},${mix(b)})`;
}

function map(known, toggle) {
  const parts = Object.keys(known.parts);
  const kind = (part) => part.split(" ")[0];
  const heads = Math.max(0, ...parts.filter((part) => kind(part) === "heads").map((part) => place(part)[1] + 1));
  const below = { heads: 3.4, experts: heads ? 3.8 + heads : 3.4 }; // rows of which there are several
  const row = (part) => (below[kind(part)] ?? Object.keys(KINDS).indexOf(kind(part))) + (place(part)[1] ?? 0);
  const names = new Map(parts.map((part) => [row(part), [KINDS[kind(part)], ...place(part).slice(1)].join(" ")]));
  const columns = 1 + Math.max(...parts.map((part) => place(part)[0]));
  const rows = [...names.keys()].sort((a, b) => a - b);
  const [left, top] = [64, 18];
  const [width, height] = [left + columns * CELL + 4, top + (rows[rows.length - 1] + 1) * CELL + 4];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Map of the parts of ${known.model}` });
  const sizes = [...known.measured].filter(([out]) => out in known.parts).map(([, [one]]) => Math.abs(one.value)).filter(Boolean);
  const usual = sizes.length ? median(sizes) : 1;
  const bend = (value) => Math.asinh(value / usual);
  const most = bend(Math.max(usual, ...sizes));
  const step = columns > 16 ? 5 : 1;
  for (let i = 0; i < columns; i += step) svg.append(draw("text", { x: left + (i + 0.5) * CELL, y: 12, "text-anchor": "middle" }, String(i)));
  for (const [r, name] of names) svg.append(draw("text", { x: left - 6, y: top + r * CELL + 13, "text-anchor": "end" }, name));
  const shown = new Map();
  const points = [...parts].sort((a, b) => row(a) - row(b) || place(a)[0] - place(b)[0]).map((part) => {
    const one = known.measured.get(part)?.[0];
    const [x, y] = [left + place(part)[0] * CELL, top + row(part) * CELL];
    const colour = !one ? "transparent" : one.significant === false ? "#d6d6d6" : shade(bend(one.value) / most);
    shown.set(part, draw("rect", { x: x + 1, y: y + 1, width: CELL - 2, height: CELL - 2, fill: colour, class: "cell", "data-part": part }));
    const said = one ? `${one.said}${one.significant === false ? ", not significant" : ""}` : "not measured alone";
    return [x + CELL / 2, y + CELL / 2, `without ${part}: ${said}`, part];
  });
  svg.append(...shown.values());
  const box = pickable(svg, width, height, points, "Parts of the model", toggle, columns);
  const update = (pick) => shown.forEach((cell, part) => {
    cell.classList.toggle("picked", pick.has(part));
    cell.classList.toggle("implied", covered(part, pick));
  });
  return { box: make("div", { class: "scroll map" }, box), update };
}

// Removal orders: a slider each, and all of them as lines

function sliders(known, pick) {
  const list = make("div", { class: "orders" });
  const rows = known.orders.map((order, i) => {
    const look = { stroke: COLOURS[i % COLOURS.length], "stroke-dasharray": DASHES[i % DASHES.length], "stroke-width": 2 };
    const slider = make("input", { type: "range", min: 0, max: order.points.length, value: 0, step: 1 });
    slider.addEventListener("input", () => pick(order.points[slider.value - 1]?.out ?? ""));
    const output = make("output", {});
    const swatch = draw("svg", { width: 26, height: 8, "aria-hidden": "true" }, draw("line", { x1: 0, x2: 26, y1: 4, y2: 4, ...look }));
    list.append(make("label", { title: order.text }, make("span", {}, swatch, " ", order.title), slider, output));
    return { order, slider, output, look };
  });
  const update = (out) => {
    for (const { order, slider, output } of rows) {
      const at = order.points.findIndex((point) => point.out === out);
      slider.value = at + 1;
      output.textContent = at < 0 ? "" : `saves ${percent(order.points[at].saved)}: ${order.points[at].said}`;
      slider.setAttribute("aria-valuetext", output.textContent || "nothing removed");
    }
  };
  return { box: list, update, rows };
}

function curves(known, rows, width, pick) {
  const all = rows.flatMap(({ order }) => order.points);
  const ends = all.flatMap((point) => [point.value, point.low, point.high]).filter((value) => value !== null);
  const made = chart(width, 320, `Rise in loss along ${counted(rows.length, "removal order")} of ${known.model}`, [0, ...all.map((point) => point.saved)],
    [0, ...ends], "block parameters saved", "rise in loss (nats per token)", (share) => `${plain(100 * share)} %`);
  const points = [];
  for (const { order, look } of rows) {
    const line = [`${made.x(0)},${made.y(0)}`, ...order.points.map((point) => `${made.x(point.saved)},${made.y(point.value)}`)];
    made.svg.append(draw("polyline", { points: line.join(" "), fill: "none", ...look }));
    for (const point of order.points) {
      const [x, y] = [made.x(point.saved), made.y(point.value)];
      if (point.low !== null) made.svg.append(draw("line", { x1: x, x2: x, y1: made.y(point.low), y2: made.y(point.high), stroke: look.stroke, class: "interval" }));
      made.svg.append(draw("circle", { cx: x, cy: y, r: 2.5, fill: look.stroke }));
      points.push([x, y, `${order.title}, without ${point.out}: ${point.said}`, point.out]);
    }
  }
  return { ...made, box: pickable(made.svg, width, 320, points, "Removal orders", pick) };
}

function sums(known, width, pick) {
  const side = Math.min(width, 380);
  const values = known.tested.flatMap((one) => [one.sum.value, one.value]);
  const made = chart(side, side, `Sums of single removals against what was measured, of ${counted(known.tested.length, "set")}`, [0, ...values], [0, ...values],
    "sum of single removals", "measured rise in loss", plain);
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  made.svg.append(draw("line", { x1: made.x(low), y1: made.y(low), x2: made.x(high), y2: made.y(high), class: "equal" }));
  const dots = known.tested.map((one) => draw("circle", { cx: made.x(one.sum.value), cy: made.y(one.value), r: 3, class: one.same ? "tested" : "tested other" }));
  made.svg.append(...dots);
  const points = known.tested.map((one) => [made.x(one.sum.value), made.y(one.value),
    `without ${one.out}: measured ${one.said}, sum ${number(one.sum.value)}${one.same ? "" : " on another text"}`, one.out]);
  return { ...made, dots, box: pickable(made.svg, side, side, points, "Sums and measurements", pick) };
}

// What is said of a set

function answer(known, parts, pick) {
  const out = print(parts);
  if (!out) return [make("p", {}, "Nothing is picked: the unpruned model.")];
  const found = known.measured.get(out);
  const said = [make("p", { class: "paper" }, `Without ${out}.`), ...(found
    ? found.map((one) => make("p", { class: "measured" }, make("strong", {}, "Measured: "),
      `a rise in loss of ${one.said} nats per token, with ${percent(one.saved)} of the block parameters saved. ${one.text}.`))
    : [unmeasured(known, parts, pick)])];
  if (parts.size > 1) said.push(make("p", { class: "sum" }, summed(known, parts)));
  return said;
}

function unmeasured(known, parts, pick) {
  const line = make("p", { class: "measured" }, make("strong", {}, "Not measured together"), ` (about ${percent(known.saved(parts))} of the block parameters). `);
  const nearest = known.nearest(parts);
  if (nearest.length) line.append("Measured sets that share most with it: ");
  nearest.forEach((one, i) => line.append(i ? "; " : "", make("button", { type: "button", class: "set", click: () => pick(one.out) }, one.out), `: ${one.said}`));
  return line;
}

const quoted = (texts) => texts.map((text) => `“${text}”`).join(" and ");
const missed = (one) => one.value - one.sum.value;

function summed(known, parts) {
  const out = print(parts);
  const tested = known.tested.find((one) => one.out === out);
  const sum = known.sum(parts);
  const alike = known.alike(known.saved(parts), out);
  if (tested) return difference(tested);
  if (!sum) return "There is no sum of single removals: not all of its parts were measured alone.";
  if (alike.length < FEW) {
    return "No sum of single removals is given: single removals do not add up, and too few sets that save about as much were measured to say by how much.";
  }
  const errors = alike.map(missed);
  const apart = alike.filter((one) => !one.same).length;
  return `The sum of its single removals is ${number(sum.value)}${sum.texts.length > 1 ? `, read on ${quoted(sum.texts)}` : ""}, which is no measurement: single removals do not add up. `
    + `On the ${alike.length} measured sets that save half to twice as much, the measured rise differed from such a sum by ${signed(Math.min(...errors))} to `
    + `${signed(Math.max(...errors))} (median ${signed(median(errors))}).`
    + (apart ? ` Of ${apart} of them the parts alone were read on another text than the set, so that texts differ as well.` : "");
}

function difference(one) {
  const [sum, far] = [number(one.sum.value), `${number(Math.abs(missed(one)))} ${missed(one) < 0 ? "lower" : "higher"}`];
  const within = one.low !== null && one.low <= one.sum.value && one.sum.value <= one.high;
  const verdict = within ? ", and its interval holds the sum." : ": single removals do not add up.";
  if (one.same) return `The sum of its single removals is ${sum}; what was measured is ${far}${verdict}`;
  return `The sum of its single removals is ${sum} on ${quoted(one.sum.texts)}; what was measured is ${far}, but on ${quoted([one.text])}: `
    + "this does not say whether single removals add up, for the texts differ as well.";
}

// The picked set in a chart: what was measured with its interval, or a sum with the range of its errors

function mark(made, known, parts, horizontal) {
  made.svg.querySelector(".mark")?.remove();
  const out = print(parts);
  const tested = horizontal === "sum" && known.tested.find((other) => other.out === out);
  const one = tested || known.measured.get(out)?.[0];
  const [saved, sum] = [known.saved(parts), known.sum(parts, one?.text)?.value];
  const alike = known.alike(saved, out);
  if (!out || (sum === undefined && (!one || horizontal === "sum")) || (!one && alike.length < FEW)) return;
  const errors = alike.map(missed);
  const [value, low, high] = one ? [one.value, one.low, one.high] : [sum, sum + Math.min(...errors), sum + Math.max(...errors)];
  const x = made.x(horizontal === "sum" ? sum : saved);
  const clip = (height) => Math.max(4, Math.min(made.svg.viewBox.baseVal.height - 40, height));
  const group = draw("g", { class: `mark ${one ? "measured" : "summed"}` });
  if (low !== null) group.append(draw("line", { x1: x, x2: x, y1: clip(made.y(low)), y2: clip(made.y(high)) }));
  const y = clip(made.y(value));
  group.append(one ? draw("circle", { cx: x, cy: y, r: 6 }) : draw("path", { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }));
  made.svg.append(group);
}

function explore(root) {
  const known = new Known(JSON.parse(root.querySelector("script").textContent));
  const said = make("div", { class: "answer", "aria-live": "polite" });
  const typed = make("input", { type: "text", spellcheck: "false", placeholder: "blocks 3, 5; heads 2.1", "aria-label": `Parts of ${known.model} to leave out` });
  let pick = new Set();
  let drawn = {};
  const set = (parts) => {
    pick = parts;
    const out = print(pick);
    typed.value = out;
    typed.removeAttribute("aria-invalid");
    said.replaceChildren(...answer(known, pick, take));
    plan.update(pick);
    steps.update(out);
    marks();
  };
  const take = (out) => set(parse(out, known.parts));
  const toggle = (part) => {
    const others = [...pick].filter((one) => one !== part && !covered(part, new Set([one]))); // a part of what is out takes its place
    set(canonical(pick.has(part) ? others : [...others, part]));
  };
  const marks = () => {
    if (drawn.curves) mark(drawn.curves, known, pick);
    if (!drawn.sums) return;
    mark(drawn.sums, known, pick, "sum");
    const alike = pick.size > 1 ? known.alike(known.saved(pick), print(pick)) : [];
    known.tested.forEach((one, i) => drawn.sums.dots[i].classList.toggle("alike", alike.some((other) => other.out === one.out)));
  };
  typed.addEventListener("change", () => {
    try {
      take(typed.value);
    } catch (error) {
      typed.setAttribute("aria-invalid", "true");
      said.replaceChildren(make("p", {}, error.message));
    }
  });
  const plan = map(known, toggle);
  const steps = sliders(known, take);
  const places = { curves: make("div", {}), sums: make("div", {}) };
  const live = make("div", { class: "live" },
    make("div", { class: "pick" }, make("span", {}, "Without"), typed, make("button", { type: "button", click: () => set(new Set()) }, "Nothing")),
    said,
    make("p", { class: "note" }, "Each part alone: red is a rise in loss without it, blue a fall, grey is not significant. ",
      make("span", { class: "hint" }, "Click to pick; several together.")),
    plan.box);
  if (known.orders.length) live.append(make("p", { class: "note" }, "Along removal orders, as they were measured:"), steps.box, places.curves);
  if (known.tested.length) {
    const apart = known.tested.every((one) => one.same) ? "" : " Grey: the parts alone were read on another text than the set, and texts differ as well.";
    live.append(make("p", { class: "note" }, `Do single removals add up? Measured sets of several parts; on the line they would. Full dots save about as much as what is picked.${apart}`), places.sums);
  }
  root.prepend(live);
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(live.clientWidth);
    if (!now || now === width) return;
    width = now;
    if (known.orders.length) drawn.curves = curves(known, steps.rows, width, take);
    if (known.tested.length) drawn.sums = sums(known, width, take);
    for (const [name, made] of Object.entries(drawn)) places[name].replaceChildren(made.box);
    marks();
  }).observe(live);
  const first = known.orders[0]?.points[Math.min(1, known.orders[0].points.length - 1)];
  take(first ? first.out : "");
}

for (const root of document.querySelectorAll(".explorer")) {
  try {
    explore(root);
  } catch (error) { // this one's tables are still there, and so are the others
    console.error(error);
    root.querySelector(".live")?.remove();
    root.prepend(make("p", {}, "Nothing can be picked here, for these numbers could not be drawn; all of them are in the tables below."));
  }
}
