// A Plotly chart that keeps its zoom when its figure changes, and tells which point was clicked, which area drawn, which
// part of a slide is in view, and which way an arrow key goes.

const load = (url) =>
  (window.nslPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      window.nslPlotly = undefined; // the next chart asks again
      reject(new Error(`${url} did not load`));
    };
    document.head.append(script);
  }));

const BUTTONS_PX = 36, LEAST_PANEL_PX = 150, BELOW_PX = 12, VIEW_MS = 250, RESIZE_MS = 150, BAR_PX = 110;
const TEXT_PX = 13, BAR_TITLE_PX = 15, ROOMY_PX = 520, LEAST_TEXT = 0.7;

// How large what is written above and beside panels is: on a phone they are narrower than their titles and names.
const textScale = (width) => Math.min(Math.max(width / ROOMY_PX, LEAST_TEXT), 1);

// Text and lines follow the app's theme; what a figure sets itself stays.
function themed(layout, element, isStill, scale) {
  const style = getComputedStyle(element);
  const text = style.getPropertyValue("--st-text-color").trim();
  const line = style.getPropertyValue("--st-border-color").trim();
  const back = style.getPropertyValue("--st-background-color").trim();
  const font = { family: style.getPropertyValue("--st-font").trim(), size: TEXT_PX, color: text, ...layout.font };
  const title = { ...layout.title, font: { size: 15, weight: 600, ...layout.title?.font } };
  // The buttons stand in a margin of their own, where they lie on no title, on touch screens either.
  const margin = { ...layout.margin, r: Math.max(layout.margin?.r ?? 0, isStill ? 0 : BUTTONS_PX) };
  const modebar = { orientation: "v", color: text, activecolor: text, bgcolor: back };
  const out = { autosize: true, ...layout, font, title, margin, modebar };
  out.hoverlabel = { bgcolor: back, bordercolor: line, font: { color: text }, ...layout.hoverlabel };
  for (const name of Object.keys(out).filter((key) => /^[xy]axis\d*$/.test(key)))
    out[name] = { linecolor: line, tickcolor: line, gridcolor: line, zerolinecolor: line, automargin: true,
      fixedrange: isStill, ...out[name] };
  const scaled = (own, usual) => ({ ...own, size: (own?.size ?? usual) * scale });
  out.annotations = layout.annotations?.map((one) => ({ ...one, font: scaled(one.font, font.size) }));
  for (const name of Object.keys(out)) {
    if (out[name]?.tickfont) out[name].tickfont = scaled(out[name].tickfont);
    if (/^coloraxis\d*$/.test(name) && out[name].colorbar) {
      const { title } = out[name].colorbar;
      out[name] = { ...out[name],
        colorbar: { ...out[name].colorbar, title: { ...title, font: scaled(title?.font, BAR_TITLE_PX) } } };
    }
  }
  return out;
}

const place = (event) => ({ x: event.points[0].x, y: event.points[0].y, axis: event.points[0].xaxis?._id ?? "x" });

// The last box or lasso, in the axes' own units. Plotly tells its range where it holds points, its outline always.
function area(event) {
  const drawn = event?.selections?.at(-1);
  if (!drawn) return null;
  const { type, xref: axis, x0, x1, y0, y1, path } = drawn;
  if (type === "rect") return { kind: "box", x: [x0, x1], y: [y0, y1], axis };
  const corners = path.slice(1, -1).split("L").map((corner) => corner.split(",").map(Number));
  return { kind: "lasso", x: corners.map(([x]) => x), y: corners.map(([, y]) => y), axis };
}

// As it is on the screen, in dark letters on white, whatever the theme.
function onPaper(chart) {
  const ink = "#24222b", line = "#c9c7d1";
  const layout = { ...chart.layout, paper_bgcolor: "#ffffff", font: { ...chart.layout.font, color: ink } };
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)))
    layout[name] = { ...layout[name], linecolor: line, tickcolor: line, gridcolor: line, zerolinecolor: line };
  return { data: chart.data, layout };
}

function size(chart) {
  const { width, height } = chart._fullLayout;
  return { width, height, filename: chart.dataset.fileName };
}

// Made once: Plotly starts over, zoom and all, where it is handed another configuration.
const STILL = { responsive: true, displayModeBar: false };
// What Plotly calls its tools, in words of the bench.
const TOOLS = { "Box Select": "Draw a box", "Lasso Select": "Draw a lasso", "Reset axes": "Show all" };
const configs = new Map();
function config(Plotly, { selectable, still }) {
  if (still) return STILL;
  if (!configs.has(selectable)) {
    const name = "savePng", title = "Download as PNG";
    const click = (chart) => Plotly.downloadImage(onPaper(chart), { format: "png", scale: 3, ...size(chart) });
    const buttons = [["zoom2d", "pan2d"], selectable ? ["select2d", "lasso2d"] : [], ["zoomIn2d", "zoomOut2d"],
      ["resetScale2d", { name, title, icon: Plotly.Icons.camera, click }]];
    configs.set(selectable, { responsive: true, scrollZoom: true, displaylogo: false, displayModeBar: true,
      modeBarButtons: buttons, locales: { en: { dictionary: TOOLS } } });
  }
  return configs.get(selectable);
}

const pageOf = (chart) => chart.closest("[data-testid='stMain']") ?? document.body;
const screenOf = (chart) => `${pageOf(chart).offsetWidth} ${pageOf(chart).offsetHeight} ${chart.clientWidth}`;

// How high a figure may be to end where the screen does, seen from the top of its page.
function roomBelow(chart) {
  return window.innerHeight - (chart.getBoundingClientRect().top + pageOf(chart).scrollTop) - BELOW_PX;
}

// Draw anew when page or chart has another size: a window made smaller, a browser zoomed, a sidebar closed, and what
// stands beside the chart come only after it. Plotly itself looks at the window alone.
function watchSize(chart, draw) {
  chart.nslDraw = draw;
  if (chart.nslWatch) return;
  chart.nslWatch = new ResizeObserver(() => {
    if (!chart.isConnected) return chart.nslWatch.disconnect();
    clearTimeout(chart.nslResize);
    chart.nslResize = setTimeout(() => {
      if (chart.isConnected && chart.dataset.screen !== screenOf(chart)) chart.nslDraw();
    }, RESIZE_MS);
  });
  for (const watched of [pageOf(chart), chart]) chart.nslWatch.observe(watched);
}

const isAsWide = ({ clientWidth, _fullLayout: { width } }) => !clientWidth || Math.abs(width - clientWidth) < 1;

// How high a panel can be at the width of its chart, where both its axes count alike; what is higher stays bare.
function mostPanel(layout, width) {
  const y = Object.keys(layout).find((key) => /^yaxis\d*$/.test(key) && layout[key].scaleanchor && layout[key].range);
  const x = y && layout[y.replace("y", "x")];
  if (!x?.range) return Infinity;
  const [left, right] = x.domain ?? [0, 1], span = ({ range: [from, to] }) => Math.abs(to - from);
  const inside = width - (layout.margin.l ?? 0) - Math.max(layout.margin.r ?? 0, BUTTONS_PX);
  return ((right - left) * inside * span(layout[y])) / span(x);
}

// The same figure less high: panels shrink, while titles, scales and axes keep their pixels.
function fitted(layout, room, width) {
  const { t = 0, b = 0 } = layout.margin, before = layout.height - t - b;
  const panels = Object.keys(layout).filter((key) => /^yaxis\d*$/.test(key) && !layout[key].fixedrange);
  const rows = [...new Map(panels.map((key) => layout[key].domain ?? [0, 1]).map((row) => [`${row}`, row])).values()]
    .map(([low, high]) => [(1 - high) * before, (1 - low) * before]);
  if (!rows.length) return layout;
  const least = Math.max(...rows.map(([top, bottom]) => Math.min(0, LEAST_PANEL_PX - (bottom - top))));
  const bare = Math.max(mostPanel(layout, width), LEAST_PANEL_PX) - Math.max(...rows.map(([top, bottom]) => bottom - top));
  const lost = Math.min(Math.max((room - layout.height) / rows.length, least), bare, 0);
  const after = before + rows.length * lost;
  const moved = (share) => {
    const down = (1 - share) * before;
    const above = rows.map(([top, bottom]) => Math.min(Math.max((down - top) / (bottom - top), 0), 1) * lost);
    return 1 - (down + above.reduce((sum, px) => sum + px, 0)) / after;
  };
  const out = { ...layout, height: layout.height + rows.length * lost };
  for (const key of Object.keys(layout)) {
    if (/^yaxis\d*$/.test(key) && layout[key].domain) out[key] = { ...layout[key], domain: layout[key].domain.map(moved) };
    if (/^coloraxis\d*$/.test(key) && layout[key].colorbar?.y !== undefined)
      out[key] = { ...layout[key], colorbar: { ...layout[key].colorbar, y: moved(layout[key].colorbar.y) } };
  }
  out.annotations = layout.annotations?.map((one) => (one.yref === "paper" ? { ...one, y: moved(one.y) } : one));
  return out;
}

const axesOf = (chart, x) => {
  const { _fullLayout: layout } = chart;
  return [layout[`xaxis${x.slice(1)}`], layout[`yaxis${x.slice(1)}`]];
};

// What of the slide each group of panels shows, in the axes' units, and on how many pixels of the screen.
function views(chart, zooms) {
  const shown = zooms.map(({ axes: [x] }) => [x, ...axesOf(chart, x)]).filter(([, xaxis]) => xaxis);
  return Object.fromEntries(shown.map(([x, { range, _length }, yaxis]) => [
    x, { x: [...range], y: [...yaxis.range], px: Math.round(_length * window.devicePixelRatio) }]));
}

const asImages = (zooms) => zooms.flatMap(({ axes, detail }) => (detail ? axes.map((x) => ({
  source: detail.source, xref: x, yref: `y${x.slice(1)}`, layer: "below", sizing: "stretch",
  x: detail.x, y: detail.y, sizex: detail.width, sizey: detail.height })) : []));

// A scale bar of a round length in a corner of each panel, and the magnification on this screen, as microscopes count.
function drawScales(chart, holder, zooms) {
  const bars = zooms.flatMap(({ axes, finest_mpp }) => axes.map((x) => [...axesOf(chart, x), finest_mpp]));
  holder.replaceChildren(...bars.filter(([xaxis]) => xaxis).map(([xaxis, yaxis, finest]) => {
    const umPerPx = (1000 * Math.abs(xaxis.range[1] - xaxis.range[0])) / xaxis._length;
    const most = umPerPx * Math.min(BAR_PX, xaxis._length / 2), ten = 10 ** Math.floor(Math.log10(most));
    const um = ten * [5, 2, 1].find((times) => times * ten <= most);
    // 10 µm/px is 1×: a scan of 40× has 0.25 µm/px. Beyond the scan's own nothing more is seen.
    const times = 10 / Math.max(umPerPx, finest), isFull = umPerPx <= finest * 1.001;
    const told = `≈ ${times < 10 ? times.toPrecision(2) : Math.round(times)}×${isFull ? ", full resolution" : ""}`;
    const scale = document.createElement("div"), bar = document.createElement("div");
    scale.className = "nsl-scale";
    scale.style.left = `${chart.offsetLeft + xaxis._offset + 8}px`;
    scale.style.top = `${chart.offsetTop + yaxis._offset + yaxis._length - 40}px`;
    bar.style.width = `${um / umPerPx}px`;
    scale.append(`${um >= 1000 ? `${um / 1000} mm` : `${um} µm`} · ${told}`, bar);
    return scale;
  }));
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function takeKeys(chart, isStepping, setTriggerValue) {
  chart.tabIndex = isStepping ? 0 : -1;
  chart.onkeydown = !isStepping ? null : (event) => {
    if (event.target !== chart || !STEPS[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    setTriggerValue("step", { columns: STEPS[event.key][0], rows: STEPS[event.key][1] });
  };
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  // Loaded ahead of the first chart; what fails then is told where a chart is drawn.
  if (!data.figure) return void load(data.plotly).catch(() => {});
  const chart = parentElement.querySelector(".nsl-chart"), scales = parentElement.querySelector(".nsl-scales");
  chart.setAttribute("aria-label", data.alt);
  chart.setAttribute("role", data.steps ? "application" : "img");
  takeKeys(chart, data.steps, setTriggerValue);
  const figure = JSON.parse(data.figure);
  chart.dataset.fileName = data.fileName;
  const draw = () => {
    const screen = screenOf(chart);
    if (chart.dataset.screen !== screen) Object.assign(chart.dataset, { screen, room: roomBelow(chart) });
    const own = fitted(figure.layout, data.fits ? +chart.dataset.room : Infinity, chart.clientWidth);
    chart.style.minHeight = `${own.height}px`;
    return load(data.plotly).then((Plotly) => {
      const scale = textScale(chart.clientWidth || ROOMY_PX), layout = themed(own, parentElement, data.still, scale);
      layout.images = [...(layout.images ?? []), ...asImages(data.zooms)];
      // Only the picture under the map may be new; the rest, which is large, then stays as it is.
      const look = `${data.drawn} ${layout.font.color} ${layout.height} ${scale}`;
      if (chart.dataset.look === look) return Plotly.relayout(chart, { images: layout.images });
      chart.dataset.look = look;
      return Plotly.react(chart, figure.data, layout, config(Plotly, data));
    }).then(() => isAsWide(chart) || window.Plotly.Plots.resize(chart))
      .then(() => drawScales(chart, scales, data.zooms));
  };
  watchSize(chart, draw);
  draw()
    .then(() => {
      for (const name of ["plotly_click", "plotly_selected", "plotly_relayout"]) chart.removeAllListeners(name);
      chart.on("plotly_click", (event) => event.points?.length && setTriggerValue("clicked", place(event)));
      chart.on("plotly_selected", (event) => {
        const drawn = area(event);
        if (!drawn) return;
        setStateValue("area", drawn);
        window.Plotly.relayout(chart, { selections: [] }); // the page draws what it makes of the area
      });
      const tell = () => {
        const told = JSON.stringify(views(chart, data.zooms));
        if (!data.zooms.length || told === chart.dataset.views) return;
        chart.dataset.views = told;
        setStateValue("views", JSON.parse(told));
      };
      chart.on("plotly_relayout", () => {
        drawScales(chart, scales, data.zooms);
        clearTimeout(chart.nslWait);
        chart.nslWait = setTimeout(tell, VIEW_MS);
      });
      chart.dataset.views ??= JSON.stringify(views(chart, data.zooms));
      chart.dataset.drawn = data.drawn;
    })
    .catch((error) => (chart.textContent = `The chart cannot be drawn (${error.message}); reload the page.`));
}
