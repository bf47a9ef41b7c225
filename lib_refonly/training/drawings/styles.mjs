// What each style offers, and which of its parts make the character and which the drawing.

/** Never in the training split: part and its values, or a whole style. */
export const HELD_OUT = {
  adventurer: { part: 'hair', values: ['long21', 'long22', 'long23', 'long24', 'short17'] },
  micah: { part: 'hair', values: ['turban', 'pixie'] },
  'open-peeps': { part: 'head', values: ['twists', 'twists2', 'turban', 'short5'] },
  'big-ears': { part: null, values: [] },
};

/** Shares of the training records. 'emoji' is spread over the three trained sets. */
export const TRAIN_SHARES = {
  adventurer: 0.35, micah: 0.11, 'open-peeps': 0.11, lorelei: 0.06, notionists: 0.05, personas: 0.045, 'toon-head': 0.04,
  'big-smile': 0.045, miniavs: 0.025, croodles: 0.02, dylan: 0.025, emoji: 0.12,
};

/** Dealt out in turn: 64 of each style and 96 of OpenMoji in 352 records. */
export const HELD_OUT_DEAL = ['adventurer', 'micah', 'open-peeps', 'big-ears', 'openmoji', 'adventurer', 'micah', 'openmoji',
  'open-peeps', 'big-ears', 'openmoji'];

/**
 * By style:
 * - noun: how captions begin.
 * - expression: the parts that differ between the two drawings of a character.
 * - hair, skin, clothes: the style's own colour options of that role; free: its other colours.
 * - hairPart: the part whose variant names the hair; bald: its variants without hair.
 * - off: parts never drawn.
 * - ink, edges: how ink drawings get colours and outlines, see paint.mjs.
 */
export const STYLES = fill({
  adventurer: { noun: 'storybook character', expression: ['eyes', 'mouth', 'eyebrows'], bald: ['short19'] },
  micah: {
    noun: 'portrait with thin lines',
    expression: ['eyes', 'mouth', 'eyebrows', 'nose'],
    hair: ['hairColor', 'facialHairColor'],
    skin: ['baseColor'],
    clothes: ['shirtColor'],
    free: ['glassesColor', 'earringColor', 'eyeShadowColor'],
    bald: ['mrClean'],
    edges: { hair: { mrT: 4 } },
  },
  'open-peeps': {
    noun: 'portrait with bold lines',
    expression: ['face'],
    hair: ['headContrastColor'],
    clothes: ['clothingColor'],
    hairPart: 'head',
    bald: ['noHair1', 'noHair2', 'bear'],
    ink: { viewBox: 704, black: { head: 'hair', facialHair: 'hair' } },
  },
  lorelei: {
    noun: 'ink portrait',
    expression: ['eyes', 'mouth', 'eyebrows', 'nose'],
    free: ['hairAccessoriesColor', 'earringsColor'],
    ink: { viewBox: 980, sentinel: 'hairColor', black: { beard: 'hair' } },
  },
  notionists: {
    noun: 'ink figure',
    expression: ['eyes', 'lips', 'brows', 'nose', 'gesture'],
    hair: [],
    skin: [],
    hairPart: null,
    off: ['bodyIcon'],
    ink: {
      viewBox: 1744,
      black: { hair: 'hair', beard: 'hair', body: 'trim' },
      white: { base: 'skin', body: 'clothes', hair: 'hair', gesture: 'skin' },
    },
  },
  personas: { noun: 'flat portrait', expression: ['eyes', 'mouth', 'nose'], clothes: ['clothingColor'], bald: ['bald'] },
  'toon-head': { noun: 'flat cartoon', expression: ['eyes', 'mouth', 'eyebrows'], clothes: ['clothesColor'], hairPart: 'rearHair' },
  'big-smile': { noun: 'smiling cartoon head', expression: ['eyes', 'mouth'] },
  miniavs: { noun: 'flat bust', expression: ['eyes', 'mouth', 'blushes'], clothes: ['bodyColor'] },
  croodles: { noun: 'doodle', expression: ['eyes', 'mouth', 'nose'], hair: ['topColor'], skin: ['baseColor'], hairPart: null },
  dylan: { noun: 'flat face', expression: ['mood'] },
  'big-ears': { noun: 'face with big ears', expression: ['eyes', 'mouth', 'nose', 'cheek'] },
});

function fill(styles) {
  const usual = { hair: ['hairColor'], skin: ['skinColor'], clothes: [], free: [], hairPart: 'hair', bald: [], off: [] };
  return Object.fromEntries(Object.entries(styles).map(([name, rules]) => [name, { ...usual, ...rules }]));
}
