// Beside each file that shrinks, its .gz and .br: the server sends them as they are.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const FOLDER = new URL("../../src/madang/server/page/assets/", import.meta.url).pathname;
const SMALLEST_BYTES = 1024;

for (const name of readdirSync(FOLDER)) {
  if (!/\.(js|css|svg)$/.test(name)) continue;
  const path = join(FOLDER, name);
  const bytes = readFileSync(path);
  if (bytes.length < SMALLEST_BYTES) continue;
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
}
