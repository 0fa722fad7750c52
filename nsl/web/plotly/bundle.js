// What the app draws with, out of plotly.js. plotly.min.js is made of this by
//
//     npm install plotly.js@4.1.1 buffer@6.0.3 esbuild@0.28.2
//     npx esbuild bundle.js --bundle --minify --format=iife --target=es2016 --define:global=window --loader:.css=empty \
//         --banner:js="/* plotly.js 4.1.1, Copyright 2012-2026 Plotly, Inc., MIT licence */" --outfile=plotly.min.js
//
// Its version is the one for which the Python package plotly makes figures.

import Plotly from "plotly.js/lib/core";
import bar from "plotly.js/lib/bar";
import box from "plotly.js/lib/box";
import contour from "plotly.js/lib/contour";
import heatmap from "plotly.js/lib/heatmap";
import image from "plotly.js/lib/image";
import scattergl from "plotly.js/lib/scattergl";

Plotly.register([bar, box, contour, heatmap, image, scattergl]);
window.Plotly = Plotly;
