import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const SERVER = process.env.MADANG_SERVER ?? "http://127.0.0.1:11434";
const API_PATHS = ["/v1", "/api", "/madang", "/ready", "/health"];

/** KaTeX brings each font in three forms, of which browsers take the first. */
const oneFormOfFonts = {
  name: "one-form-of-fonts",
  enforce: "pre" as const,
  transform(code: string, id: string) {
    if (!id.includes("katex") || !/\.css(\?|$)/.test(id)) return null;
    return { code: code.replace(/,url\([^)]*\.(?:woff|ttf)\) format\("[a-z]+"\)/g, ""), map: null };
  },
};

export default defineConfig({
  plugins: [react(), oneFormOfFonts],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    outDir: "../src/madang/server/page",
    emptyOutDir: true,
    manifest: "manifest.json",
    target: "es2022",
    cssTarget: ["chrome123", "firefox121", "safari17.5"], // as they are: nesting, light-dark()
    // The server's policy lets fonts and images come from itself only, never out of a style sheet.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: Object.fromEntries(
      API_PATHS.map((path) => [
        path,
        // Of another port, the page would be another origin, which the server refuses.
        { target: SERVER, changeOrigin: true, headers: { origin: SERVER } },
      ]),
    ),
  },
  test: { environment: "node", include: ["src/**/*.test.ts", "src/**/*.test.tsx"] },
});
