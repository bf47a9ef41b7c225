// Writes drawings as JSON lines: node generate.mjs --npm DIR --seed S --split train|heldout --start I --count N
// {id, style, group, caption, captionB, svgA, svgB, [lineA, lineB,] attributes}. Record i depends on (seed, split, i) alone.
import { parseArgs } from 'node:util';

import { character, loadStyle } from './characters.mjs';
import { emoji, loadEmoji, loadOpenMoji, openMoji } from './emoji.mjs';
import { Random } from './random.mjs';
import { HELD_OUT_DEAL, TRAIN_SHARES } from './styles.mjs';

async function makers(npm, split) {
  const kinds = split === 'train' ? Object.keys(TRAIN_SHARES) : [...new Set(HELD_OUT_DEAL)];
  const made = await Promise.all(kinds.map(async (kind) => {
    if (kind === 'emoji') {
      const sheet = loadEmoji(npm);
      return [kind, (random) => emoji(sheet, random)];
    }
    if (kind === 'openmoji') {
      const sheet = loadOpenMoji(npm);
      return [kind, (random) => openMoji(sheet, random)];
    }
    const loaded = await loadStyle(npm, kind);
    return [kind, (random) => character(loaded, split, random)];
  }));
  return Object.fromEntries(made);
}

async function write(line) {
  if (!process.stdout.write(line)) await new Promise((resolve) => process.stdout.once('drain', resolve));
}

async function main() {
  const names = ['npm', 'seed', 'split', 'start', 'count'];
  const { values } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: 'string' }])) });
  if (!['train', 'heldout'].includes(values.split)) throw new Error(`--split is train or heldout, not ${values.split}`);
  const make = await makers(values.npm, values.split);
  const start = Number(values.start ?? 0);
  for (let i = start; i < start + Number(values.count); i++) {
    const random = new Random(`${values.seed}/${values.split}/${i}`);
    const group = values.split === 'train' ? random.weighted(TRAIN_SHARES) : HELD_OUT_DEAL[i % HELD_OUT_DEAL.length];
    const record = make[group](random);
    await write(`${JSON.stringify({ id: `${values.split}-${values.seed}-${String(i).padStart(6, '0')}`, group, ...record })}\n`);
  }
}

process.stdout.on('error', (error) => process.exit(error.code === 'EPIPE' ? 0 : 1)); // the reader stopped early
await main();
