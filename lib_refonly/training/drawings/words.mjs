// Words for the parts of each style, by style, part and variant. '' says nothing; a missing variant is named after itself.

const numbered = (prefix, table) => Object.fromEntries(Object.entries(table).flatMap(([word, numbers]) =>
  numbers.map((n) => [`${prefix}${String(n).padStart(2, '0')}`, word])));

export const WORDS = {
  adventurer: {
    hair: {
      ...numbered('long', {
        'flower crown and short': [3], 'very long wavy': [6], 'long straight, flower crown,': [8], 'tied up': [10, 11],
        'half up bun': [12], 'two small buns of': [13, 23], 'low pigtails of': [14], 'pigtails of': [15], 'long braid of': [16],
        'long wavy': [17, 22], 'long wavy, a flower in the': [18], 'ponytail of': [19], 'long, over one eye,': [20],
      }),
      ...numbered('short', {
        'short curly': [3, 17, 18], 'top knot of': [5], 'a lock of': [12], 'thin combed over': [13], mohawk: [15],
        'short spiky': [16], 'shaved head': [19],
      }),
    },
    mouth: numbered('variant', {
      smiling: [1, 2], 'big grin': [5, 22, 23], laughing: [25, 26, 27, 28, 30], 'red lips': [6, 8], 'mouth open': [3, 7, 14, 18],
      shouting: [15, 24], 'tongue out': [12, 16], kissing: [17], drooling: [13], 'straight mouth': [9, 10, 19],
      'teeth clenched': [11], pouting: [20, 21], frowning: [4],
    }),
    eyes: numbered('variant', {
      'eyes closed': [19, 20], winking: [21, 22], 'sparkling eyes': [23], sleepy: [4, 15, 16, 17, 18], staring: [7, 8],
      'suspicious look': [11, 12, 13, 14], eyelashes: [1, 2, 3, 6],
    }),
  },
  micah: {
    hair: {
      fonze: 'slicked back', mrT: 'mohawk', dougFunny: 'a few strands of', dannyPhantom: 'long side swept', full: 'long wavy',
      turban: 'turban covered', pixie: 'short bob',
    },
    eyes: {
      eyes: '', round: 'round eyes', eyesShadow: 'eye shadow', smiling: 'eyes closed', smilingShadow: 'eyes closed, eye shadow',
    },
  },
  'open-peeps': {
    head: {
      hatBeanie: 'beanie,', hatHip: 'hat,', hijab: 'hijab,', pomp: 'pompadour', grayBun: 'bun of', grayMedium: 'medium',
      grayShort: 'short', bun: 'head scarf,', bun2: 'bun of', buns: 'buns of', noHair3: 'half bald', turban: 'turban covered',
    },
  },
  lorelei: {
    hair: numbered('variant', {
      short: [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 22, 25, 28, 44, 47], 'short curly': [5, 39], 'a lock of': [34], mohawk: [27],
      'two buns of': [26], 'bun of': [14, 36, 38, 45, 46], 'ponytail of': [31, 33], long: [15, 16, 19, 21, 23, 32, 37, 40, 41],
      'long wavy': [24, 35],
    }),
  },
  personas: {
    hair: { cap: 'cap,', beanie: 'beanie,' },
    eyes: { open: '', sleep: 'eyes closed', wink: 'winking', happy: 'happy eyes' },
  },
  'toon-head': {
    hair: { sideComed: 'side combed' },
    eyes: { wink: 'winking', happy: 'happy eyes', wide: 'wide eyes', bow: 'eyes closed', humble: '' },
  },
  'big-smile': { accessories: { sailormoonCrown: 'crown' } },
  miniavs: {
    hair: {
      balndess: 'half bald', slaughter: 'short', elvis: 'quiff', ponyTail: 'ponytail of', classic01: 'short', classic02: 'short',
    },
  },
};
