// Two drawings of one character: the same hair, colours, clothes; another face and pose.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { caption } from './captions.mjs';
import { distance, freeColour, mapColours, naturalSkin, nearBlack, recolouring } from './colour.mjs';
import { coatParts, edgeParts, fillSentinel, withFilter } from './paint.mjs';
import { HELD_OUT, STYLES } from './styles.mjs';

const SENTINEL = '0a0b0c';
const FREE_COLOURS = 0.7;
const SWAPPED_EXTRA = 0.15; // how often an accessory differs between the two drawings
/** Loads a style with its parts ready to be painted. */
export async function loadStyle(npm, name) {
  const at = (file) => import(pathToFileURL(join(npm, 'node_modules', '@dicebear', file)).href);
  const [core, style] = await Promise.all([at('core/lib/index.js'), at(`${name}/lib/index.js`)]);
  const rules = STYLES[name];
  const coat = {};
  const tables = await at(`${name}/lib/components/index.js`);
  if (rules.ink) coatParts(tables, rules.ink, coat);
  if (rules.edges) edgeParts(tables, rules.edges);
  return { name, rules, coat, style, create: core.createAvatar, properties: style.schema.properties };
}

function components(properties) {
  const isPart = ([key, value]) => value.items?.enum && !key.endsWith('Color');
  return Object.entries(properties).filter(isPart).map(([key, value]) => [key, value.items.enum]);
}

function allowed(name, part, values, split) {
  const rule = HELD_OUT[name];
  if (!rule || rule.part !== part) return values;
  return values.filter((value) => rule.values.includes(value) === (split === 'heldout'));
}

/** Chooses every part: {part: variant or null}. */
function chooseParts(loaded, split, random) {
  const parts = {};
  for (const [part, values] of components(loaded.properties)) {
    const probability = loaded.properties[`${part}Probability`]?.default ?? 100;
    const variant = random.pick(allowed(loaded.name, part, values, split));
    const present = random.chance(probability / 100) && !loaded.rules.off.includes(part);
    parts[part] = present ? variant : null;
  }
  return parts;
}

/** The same character in another drawing: expression parts anew, accessories seldom. */
function redraw(loaded, parts, split, random) {
  const again = chooseParts(loaded, split, random);
  const swap = random.chance(SWAPPED_EXTRA);
  const changed = (part) => loaded.rules.expression.includes(part) || (swap && ['glasses', 'accessories'].includes(part));
  return Object.fromEntries(Object.entries(parts).map(([part, variant]) => [part, changed(part) ? again[part] : variant]));
}

function paletteColour(properties, option, random) {
  const values = (properties[option]?.default ?? []).filter((value) => value !== 'transparent' && !nearBlack(value));
  return values.length ? random.pick(values).toLowerCase() : null;
}

/** The colours of a character by role: {hair, skin, clothes, trim}. Neighbouring areas never look alike. */
function chooseColours(loaded, random) {
  const free = random.chance(FREE_COLOURS);
  const { rules, properties } = loaded;
  const own = (options) => (free || options.length === 0 ? null : paletteColour(properties, options[0], random));
  const skinFree = free && random.chance(0.5);
  const colours = { skin: skinFree ? freeColour(random) : own(rules.skin) ?? naturalSkin(random) };
  for (const role of ['hair', 'clothes', 'trim']) {
    const others = Object.values(colours);
    let colour = own(rules[role] ?? []) ?? freeColour(random);
    while (others.some((other) => distance(other, colour) < 18)) colour = freeColour(random);
    colours[role] = colour;
  }
  return { free, ...colours };
}

function colourOptions(loaded, colours, random) {
  const options = {};
  for (const role of ['hair', 'skin', 'clothes']) {
    for (const option of loaded.rules[role]) options[option] = [colours[role]];
  }
  for (const option of loaded.rules.free) {
    options[option] = [(colours.free ? null : paletteColour(loaded.properties, option, random)) ?? freeColour(random)];
  }
  if (loaded.rules.ink?.sentinel) options[loaded.rules.ink.sentinel] = [SENTINEL];
  if (loaded.properties.backgroundColor) options.backgroundColor = ['transparent'];
  return options;
}

function choosePose(random) {
  const pose = { flip: random.chance(0.5) };
  if (random.chance(0.6)) pose.rotate = (random.integer(-12, 12) + 360) % 360;
  if (random.chance(0.5)) pose.scale = random.integer(84, 104);
  if (random.chance(0.5)) Object.assign(pose, { translateX: random.integer(-5, 5), translateY: random.integer(-4, 4) });
  return pose;
}

function draw(loaded, parts, colours, options, pose) {
  Object.assign(loaded.coat, colours);
  const chosen = {};
  for (const [part, variant] of Object.entries(parts)) {
    if (variant !== null) chosen[part] = [variant];
    if (`${part}Probability` in loaded.properties) chosen[`${part}Probability`] = variant === null ? 0 : 100;
  }
  const avatar = loaded.create(loaded.style, { seed: 'fixed', clip: false, ...chosen, ...options, ...pose });
  const svg = avatar.toString().replace(/<metadata[\s\S]*?<\/metadata>/, '');
  const { ink } = loaded.rules;
  if (!ink) return svg;
  return withFilter(ink.sentinel ? fillSentinel(svg, SENTINEL, colours.hair) : svg, ink.viewBox);
}

/** One record: two drawings of one character with captions. */
export function character(loaded, split, random) {
  const parts = [chooseParts(loaded, split, random)];
  parts.push(redraw(loaded, parts[0], split, random));
  const colours = chooseColours(loaded, random);
  const options = colourOptions(loaded, colours, random);
  const poses = [choosePose(random), choosePose(random)];
  const map = recolouring(random);
  const svgs = [0, 1].map((i) => draw(loaded, parts[i], colours, options, poses[i]));
  const { free, ...plain } = colours;
  const seen = map ? Object.fromEntries(Object.entries(plain).map(([role, hex]) => [role, map(hex)])) : plain;
  const [svgA, svgB] = map ? svgs.map((svg) => mapColours(svg, map)) : svgs;
  return {
    style: loaded.name, caption: caption(loaded.name, parts[0], seen), captionB: caption(loaded.name, parts[1], seen), svgA, svgB,
    attributes: { partsA: parts[0], partsB: parts[1], colours: seen, free, recoloured: map !== null, poseA: poses[0], poseB: poses[1] },
  };
}
