// Colour for styles that are drawn in black and white: solid black areas are filled, their outline stays.

const FILTER = 'shrink';
const RADIUS = 1.15 / 100; // of the view box: at 256 px an outline of 3 px stays; thinner lines stay black altogether

function solid(ink) {
  return new RegExp(`<path[^>]*fill="#(?:${ink})"[^>]*/>|<g fill="#(?:${ink})">(?:<path[^>]*/>)+</g>`, 'g');
}

/** Elements in an ink (a hex pattern): in black, and above it the same coloured and eroded, so that the copy has no thin lines. */
function fillInk(body, ink, colour) {
  return body.replace(solid(ink), (element) => {
    const paint = (fill) => element.replace(new RegExp(`fill="#(?:${ink})"`), fill);
    return paint('fill="#000"') + paint(`fill="#${colour}" filter="url(#${FILTER})"`);
  });
}

function outsideMasks(body, change) {
  return body.split(/(<mask[\s\S]*?<\/mask>)/).map((piece) => (piece.startsWith('<mask') ? piece : change(piece))).join('');
}

/**
 * Makes the parts of a style paint themselves. `tables` are the style's own part tables ({part: {variant: function}}), which are
 * changed in place; `coat` holds the colours of the drawing in hand ({hair, skin, clothes, trim}) and is set before each drawing.
 */
export function coatParts(tables, ink, coat) {
  for (const part of new Set([...Object.keys(ink.white ?? {}), ...Object.keys(ink.black ?? {})])) {
    const white = ink.white?.[part];
    const black = ink.black?.[part];
    for (const [variant, draw] of Object.entries(tables[part])) {
      tables[part][variant] = (...given) => outsideMasks(draw(...given), (body) => {
        const base = white ? body.replace(/fill="#(fff|ffffff)"/g, `fill="#${coat[white]}"`) : body;
        return black ? fillInk(base, '000|000000', coat[black]) : base;
      });
    }
  }
}

/** Gives parts that their style left without an outline one, by `edges`: {part: {variant: width}}. */
export function edgeParts(tables, edges) {
  for (const [part, variants] of Object.entries(edges)) {
    for (const [variant, width] of Object.entries(variants)) {
      const draw = tables[part][variant];
      tables[part][variant] = (...given) => `<g stroke="#000" stroke-width="${width}">${draw(...given)}</g>`;
    }
  }
}

/** The drawing with a sentinel colour replaced by black around a coloured inside. */
export function fillSentinel(svg, sentinel, colour) {
  return fillInk(svg, sentinel, colour).replaceAll(`#${sentinel}`, '#000');
}

/** The drawing with the erosion filter its elements refer to. */
export function withFilter(svg, viewBox) {
  const erode = `<feMorphology operator="erode" radius="${(viewBox * RADIUS).toFixed(2)}"/>`;
  return svg.replace(/(<svg[^>]*>)/, `$1<defs><filter id="${FILTER}" color-interpolation-filters="sRGB">${erode}</filter></defs>`);
}
