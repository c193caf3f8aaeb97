// Builds the page into the folder that is given: the page, its style, the script of the first view, that of the others, which
// comes later, and what the two share; and the style of the API's reference, a page that the server makes of the contract. All but
// the page compressed as well.
// With --check it builds elsewhere and says what in the folder is not what comes out.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, brotliDecompressSync } from "node:zlib";
import { build } from "esbuild";

/** What a first visit may cost, compressed. */
const FIRST_VIEW = 60_000;

const check = process.argv[2] === "--check";
const dist = process.argv[check ? 3 : 2];
const out = check ? join(tmpdir(), `heedwell-dist-${process.pid}`) : dist;
mkdirSync(out, { recursive: true });

// The page speaks the binary format alone; the other one would be a tenth of the script.
const noJson = {
  name: "no-json",
  setup({ onLoad }) {
    onLoad({ filter: /@bufbuild\/protobuf\/dist\/esm\/(to|from)-json\.js$/ }, ({ path }) => {
      const names = [...readFileSync(path, "utf8").matchAll(/^export function (\w+)/gm)].map(([, name]) => name);
      const none = "() => { throw new Error('no JSON in this build'); }";
      return { contents: names.map((name) => `export const ${name} = ${none};`).join("\n") };
    });
  },
};

const { metafile } = await build({
  entryPoints: { app: "src/main.tsx", reference: "src/reference.css" },
  bundle: true,
  minify: true,
  metafile: true,
  legalComments: "none",
  format: "esm",
  splitting: true,
  chunkNames: "[name]",
  target: ["chrome123", "firefox120", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: out,
  plugins: [noJson],
});
if (process.env.META) writeFileSync(process.env.META, JSON.stringify(metafile));
writeFileSync(join(out, "index.html"), readFileSync("src/index.html"));

const plain = ["index.html", "app.js", "app.css", "chunk.js", "more.js", "reference.css"];
const later = ["more.js", "reference.css"];
const packed = plain.slice(1);
let first = readFileSync(join(out, "index.html")).length;
for (const file of packed) {
  const bytes = brotliCompressSync(readFileSync(join(out, file)));
  if (!later.includes(file)) first += bytes.length;
  writeFileSync(join(out, `${file}.br`), bytes);
}
console.log(`first view: ${first} bytes of ${FIRST_VIEW}`);
const faults = first > FIRST_VIEW ? ["the first view has grown too large"] : [];
if (check) {
  const same = (left, right) => Buffer.compare(left, right) === 0;
  for (const file of plain) {
    if (!same(readFileSync(join(dist, file)), readFileSync(join(out, file)))) faults.push(`${dist}/${file} is not what src gives`);
  }
  // Two versions of Node may compress differently; what counts is what comes out again.
  for (const file of packed) {
    const unpacked = brotliDecompressSync(readFileSync(join(dist, `${file}.br`)));
    if (!same(unpacked, readFileSync(join(dist, file)))) faults.push(`${dist}/${file}.br holds something else`);
  }
  rmSync(out, { recursive: true });
}
for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);
