// Captions: what is seen, in plain words.
import { colourName, skinName } from './colour.mjs';
import { STYLES } from './styles.mjs';
import { WORDS } from './words.mjs';

// Parts that captions tell of, in this order; those with a word are said as "<variant> <word>".
const SHOWN = {
  glasses: 'glasses', earrings: 'earrings', accessories: '', facialHair: 'beard', beard: 'beard', mustache: 'moustache', mask: '',
  features: '', freckles: 'freckles', hairAccessories: '', eyes: '', mouth: '', face: '', mood: '', gesture: '',
};
const UNNAMED = /^(variant|default|normal|standard|base)?\d*$/i;

function words(style, part, variant) {
  const known = WORDS[style]?.[part]?.[variant];
  if (known !== undefined) return known;
  return UNNAMED.test(variant) ? '' : variant.replace(/\d+$/, '').replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase();
}

function hairWords(style, parts, colours) {
  const { hairPart, bald } = STYLES[style];
  const part = parts[hairPart] ? hairPart : 'hair';
  const variant = parts[part];
  if (hairPart && (!variant || bald.includes(variant))) return WORDS[style]?.[part]?.[variant] ?? 'bald';
  const named = hairPart ? words(style, part, variant).replace(/ hair$/, '') : '';
  return `${named} ${colourName(colours.hair)} hair`.trim();
}

/**
 * The caption of a drawing.
 * style: a key of STYLES; parts: {part: variant or null}; colours: {hair, skin, clothes} as seen.
 */
export function caption(style, parts, colours) {
  const { noun, clothes, hairPart, ink } = STYLES[style];
  const said = [noun, hairWords(style, parts, colours), skinName(colours.skin)];
  if (clothes.length || ink?.white?.body) said.push(`${colourName(colours.clothes)} clothes`);
  for (const [part, noun] of Object.entries(SHOWN)) {
    if (!parts[part] || part === hairPart) continue;
    const word = words(style, part, parts[part]);
    said.push(word === noun ? word : `${word} ${noun}`.trim());
  }
  return said.filter(Boolean).join(', ');
}
