// Colours: conversions, names, random picks and the recolouring that two drawings of one character share. Hex without '#'.

const NAMES = {
  black: '101010', 'dark grey': '4a4a4a', grey: '808080', 'light grey': 'c4c4c4', white: 'fafafa',
  red: 'dd2222', 'dark red': '7a1520', pink: 'f7a8c0', magenta: 'e030b0', orange: 'f08020', peach: 'f8c8a0',
  brown: '8a5028', 'dark brown': '482a18', beige: 'd8c09a', blonde: 'e4c464', yellow: 'f5e030', olive: '7c7c24',
  'lime green': '90e030', green: '2ca03c', 'dark green': '145028', mint: 'a4ecc4', teal: '1a8c8c', cyan: '40d8e8',
  'light blue': 'a4ccf4', blue: '2c5ce0', navy: '18246c', purple: '7c30b8', lavender: 'c4b0f0',
};

export function rgb(hex) {
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function toHex(values) {
  return values.map((v) => Math.max(0, Math.min(255, Math.round(v))).toString(16).padStart(2, '0')).join('');
}

function hsl(hex) {
  const [r, g, b] = rgb(hex).map((v) => v / 255);
  const high = Math.max(r, g, b);
  const low = Math.min(r, g, b);
  const range = high - low;
  const lightness = (high + low) / 2;
  if (range === 0) return [0, 0, lightness];
  const saturation = range / (1 - Math.abs(2 * lightness - 1));
  const hue = high === r ? ((g - b) / range + 6) % 6 : high === g ? (b - r) / range + 2 : (r - g) / range + 4;
  return [hue * 60, saturation, lightness];
}

function fromHsl(hue, saturation, lightness) {
  const amplitude = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    return 255 * (lightness - amplitude * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return toHex([channel(0), channel(8), channel(4)]);
}

function lab(hex) {
  const [r, g, b] = rgb(hex).map((v) => (v > 10.31475 ? ((v / 255 + 0.055) / 1.055) ** 2.4 : v / 255 / 12.92));
  const xyz = [
    (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
    0.2126 * r + 0.7152 * g + 0.0722 * b,
    (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
  ];
  const [x, y, z] = xyz.map((v) => (v > 0.008856 ? Math.cbrt(v) : 7.787 * v + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** CIE76 distance of two colours. */
export function distance(a, b) {
  const [p, q] = [lab(a), lab(b)];
  return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

/** True for what the line art counts as a line: on a black ground such a fill would also be invisible. */
export function nearBlack(hex) {
  return Math.max(...rgb(hex)) < 0x30;
}

/** The nearest plain colour word. */
export function colourName(hex) {
  let best = null;
  for (const [name, value] of Object.entries(NAMES)) {
    const d = distance(hex, value);
    if (best === null || d < best[0]) best = [d, name];
  }
  return best[1];
}

/** "light skin" ... "dark skin" for natural tones, else "green skin". */
export function skinName(hex) {
  const [hue, saturation, lightness] = hsl(hex);
  if (hue < 8 || hue > 42 || saturation < 0.15 || (saturation > 0.95 && lightness < 0.6)) return `${colourName(hex)} skin`;
  const words = [[0.82, 'light'], [0.64, 'tan'], [0.42, 'brown'], [0, 'dark']];
  return `${words.find(([floor]) => lightness >= floor)[1]} skin`;
}

/** Any colour a painter might take: saturated, pastel, dark or nearly grey; never near black. */
export function freeColour(random) {
  const kind = random.weighted({ saturated: 0.45, pastel: 0.27, dark: 0.2, grey: 0.08 });
  const hue = random.between(0, 360);
  if (kind === 'saturated') return fromHsl(hue, random.between(0.6, 1), random.between(0.4, 0.65));
  if (kind === 'pastel') return fromHsl(hue, random.between(0.45, 0.95), random.between(0.74, 0.88));
  if (kind === 'dark') return fromHsl(hue, random.between(0.4, 0.9), random.between(0.17, 0.32));
  return fromHsl(hue, random.between(0, 0.1), random.between(0.3, 0.97));
}

/** A human skin tone. */
export function naturalSkin(random) {
  const t = random.next();
  return fromHsl(random.between(16, 32), random.between(0.4, 0.8), 0.2 + 0.66 * t);
}

/** A colour map (hue rotation and/or channel permutation) that keeps greys, or null half of the time. */
export function recolouring(random) {
  if (random.chance(0.5)) return null;
  const kind = random.pick(['hue', 'permutation', 'both']);
  const turn = kind === 'permutation' ? 0 : random.between(30, 330);
  const order = kind === 'hue' ? [0, 1, 2] : random.pick([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]);
  return (hex) => {
    const [hue, saturation, lightness] = hsl(hex);
    const turned = turn ? rgb(fromHsl((hue + turn) % 360, saturation, lightness)) : rgb(hex);
    return toHex(order.map((channel) => turned[channel]));
  };
}

function long(hex) {
  return (hex.length === 3 ? [...hex].map((c) => c + c).join('') : hex).toLowerCase();
}

/** The drawing with every colour mapped. References such as href="#id" and url(#id) are left alone. */
export function mapColours(svg, map) {
  return svg.replace(/(href=)?(["':;\s])#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})(?=["';\s])/g, (all, href, before, hex) =>
    href ? all : `${before}#${map(long(hex))}`);
}
