// A Plotly chart that keeps its zoom when its figure changes, and tells which point was clicked or which area drawn.

const load = (url) =>
  (window.nslPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error(`${url} did not load`));
    document.head.append(script);
  }));

// Text and lines follow the app's theme; what a figure sets itself stays.
function themed(layout, element) {
  const style = getComputedStyle(element);
  const text = style.getPropertyValue("--st-text-color").trim();
  const line = style.getPropertyValue("--st-border-color").trim();
  const back = style.getPropertyValue("--st-background-color").trim();
  const font = { family: style.getPropertyValue("--st-font").trim(), size: 13, color: text, ...layout.font };
  const title = { ...layout.title, font: { size: 15, weight: 600, ...layout.title?.font } };
  const out = { autosize: true, ...layout, font, title, modebar: { color: text, activecolor: text, bgcolor: back } };
  out.hoverlabel = { bgcolor: back, bordercolor: line, font: { color: text }, ...layout.hoverlabel };
  for (const name of Object.keys(out).filter((key) => /^[xy]axis\d*$/.test(key)))
    out[name] = { linecolor: line, tickcolor: line, gridcolor: line, zerolinecolor: line, ...out[name] };
  return out;
}

const place = (event) => ({ x: event.points[0].x, y: event.points[0].y, axis: event.points[0].xaxis?._id ?? "x" });

// A box or a lasso in the axes' own units; plotly names its ranges after the axes it was drawn in.
function area(event) {
  const drawn = event?.lassoPoints ?? event?.range;
  if (!drawn) return null;
  const [x, y] = [Object.keys(drawn).find((k) => k[0] === "x"), Object.keys(drawn).find((k) => k[0] === "y")];
  return { kind: event.lassoPoints ? "lasso" : "box", x: Array.from(drawn[x]), y: Array.from(drawn[y]), axis: x };
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
const configs = new Map();
function config(Plotly, selectable) {
  if (!configs.has(selectable)) {
    const name = "savePng", title = "Download as PNG";
    const click = (chart) => Plotly.downloadImage(onPaper(chart), { format: "png", scale: 3, ...size(chart) });
    const buttons = [["zoom2d", "pan2d"], selectable ? ["select2d", "lasso2d"] : [], ["zoomIn2d", "zoomOut2d"],
      ["resetScale2d", { name, title, icon: Plotly.Icons.camera, click }]];
    configs.set(selectable, { responsive: true, scrollZoom: true, displaylogo: false, displayModeBar: true,
      modeBarButtons: buttons });
  }
  return configs.get(selectable);
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const chart = parentElement.querySelector(".nsl-chart");
  chart.setAttribute("aria-label", data.alt);
  const figure = JSON.parse(data.figure);
  chart.dataset.fileName = data.fileName;
  load(data.plotly)
    .then((Plotly) => {
      const layout = themed(figure.layout, parentElement);
      return Plotly.react(chart, figure.data, layout, config(Plotly, data.selectable));
    })
    .then(() => {
      for (const name of ["plotly_click", "plotly_selected"]) chart.removeAllListeners(name);
      chart.on("plotly_click", (event) => event.points?.length && setTriggerValue("clicked", place(event)));
      chart.on("plotly_selected", (event) => {
        const drawn = area(event);
        if (!drawn) return;
        setStateValue("area", drawn);
        window.Plotly.relayout(chart, { selections: [] }); // the page draws what it makes of the area
      });
      chart.dataset.drawn = data.drawn;
    })
    .catch((error) => (chart.textContent = `The chart cannot be drawn (${error.message}); reload the page.`));
}
