// Emoji: breadth for training (three permissive sets), and OpenMoji with its own line drawings for testing only.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { mapColours, recolouring } from './colour.mjs';

const SETS = ['noto', 'twemoji', 'fluent-emoji-flat'];
const HOURS = 'one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve';
const SKIPPED = new RegExp(`(^|-)(skin-tone|skin|flag|keycap|regional)(-|$)|-(light|medium|dark)$|(^|-)(${HOURS})-(thirty|oclock)$`);
const COLOUR_WORD = /\b(red|orange|yellow|green|blue|purple|brown|black|white|gr[ae]y|pink|light|dark|blond|gold|silver|rainbow)\b/;

/** The trained sets: [{set, name, svg}]. */
export function loadEmoji(npm) {
  return SETS.flatMap((set) => {
    const sheet = JSON.parse(readFileSync(join(npm, 'node_modules', '@iconify-json', set, 'icons.json'), 'utf8'));
    return Object.entries(sheet.icons).filter(([name]) => !SKIPPED.test(name)).map(([name, icon]) => {
      const box = `${icon.left ?? 0} ${icon.top ?? 0} ${icon.width ?? sheet.width ?? 16} ${icon.height ?? sheet.height ?? 16}`;
      const head = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box}">`;
      return { set, name: name.replaceAll('-', ' '), svg: `${head}${icon.body}</svg>` };
    });
  });
}

/** One record of a trained set. The second drawing is the first: a reader augments it. */
export function emoji(sheet, random) {
  const { set, name, svg } = random.pick(sheet);
  const map = recolouring(random);
  const recoloured = map !== null && !COLOUR_WORD.test(name);
  const drawn = recoloured ? mapColours(svg, map) : svg;
  const caption = recoloured ? `recoloured ${name} emoji` : `${name} emoji`;
  return { style: set, caption, captionB: caption, svgA: drawn, svgB: drawn, attributes: { name, recoloured } };
}

/** OpenMoji, without flags and skin tones: [{name, svg, line}]. */
export function loadOpenMoji(npm) {
  const root = join(npm, 'node_modules', 'openmoji');
  const entries = JSON.parse(readFileSync(join(root, 'data', 'openmoji.json'), 'utf8'));
  const shown = entries.filter((entry) => !entry.skintone && !/flags|extras/.test(entry.group));
  return shown.map(({ hexcode, annotation }) => ({ name: annotation, file: join('svg', `${hexcode}.svg`), root }));
}

/** One record of OpenMoji, with its own line drawing. */
export function openMoji(sheet, random) {
  const { name, file, root } = random.pick(sheet);
  const read = (kind) => readFileSync(join(root, kind, file), 'utf8');
  const [svg, line] = [read('color'), read('black')];
  const caption = `${name} emoji`;
  const drawings = { svgA: svg, svgB: svg, lineA: line, lineB: line };
  return { style: 'openmoji', caption, captionB: caption, ...drawings, attributes: { name, recoloured: false } };
}
