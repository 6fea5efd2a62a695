"use strict";
// Words for the cell of a confusion matrix that is pointed at.
const data = JSON.parse(document.getElementById("data").textContent);

for (const figure of document.querySelectorAll("[data-confusion]")) {
  const svg = figure.querySelector("svg");
  const readout = figure.querySelector(".readout");
  const side = data.classes.length;
  const counts = new Map();
  const totals = new Array(side).fill(0);
  const flat = data.matrices[figure.dataset.confusion];
  for (let k = 0; k < flat.length; k += 3) {
    counts.set(flat[k] * side + flat[k + 1], flat[k + 2]);
    totals[flat[k]] += flat[k + 2];
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const cellAt = (offset) => Math.floor((offset * scale - svg.dataset.margin) / svg.dataset.cell);
    const row = cellAt(event.clientY - box.top);
    const column = cellAt(event.clientX - box.left);
    if (row < 0 || column < 0 || row >= side || column >= side) return;
    const count = counts.get(row * side + column) ?? 0;
    const percent = totals[row] ? ` (${(100 * count / totals[row]).toFixed(0)} %)` : "";
    readout.textContent =
      `${data.classes[row]} taken for ${data.classes[column]}: ${count} of ${totals[row]}${percent}`;
  });
}
