// The reader's colours for the plots, which stand in grey until then; again when the reader changes them.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const models = () => Bokeh.documents.flatMap((document) => document.roots().flatMap((root) => [...root.references()]));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const paint = () => {
    const soft = colour("--soft"), ink = colour("--ink");
    for (const model of models()) {
      if (model.type.endsWith("Axis")) {
        model.setv({axis_label_text_color: soft, major_label_text_color: soft});
        if (model.axis_line_color) model.setv({axis_line_color: soft, major_tick_line_color: soft});
      } else if (model.type === "Grid") {
        model.setv({grid_line_color: soft});
      } else if (model.type === "Text") {
        model.setv({text_color: {value: ink}});
      }
    }
  };
  // A finger that draws a box could no longer scroll the page.
  const release = () => {
    for (const model of models()) if (model.type === "BoxZoomTool") model.active = false;
  };
  const begin = () => {
    if (!Bokeh.documents.length) return requestAnimationFrame(begin);
    paint();
    if (matchMedia("(pointer: coarse)").matches) release();
    dark.addEventListener("change", paint);
  };
  begin();
})();
