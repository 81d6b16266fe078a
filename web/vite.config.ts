import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses let a reverse proxy put the hub below any path.
  base: "./",
  server: { proxy: { "/api": "http://127.0.0.1:8080", "/health": "http://127.0.0.1:8080" } },
  build: {
    outDir: "../gpumon/hub/page",
    // The directory lies outside this one, where Vite does not empty unasked: old hashed files would pile up.
    emptyOutDir: true,
    target: "es2022",
    // The hub's Content-Security-Policy allows files of its own only: no data: addresses for scripts or styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What others wrote of the page goes with their licences, as these ask for.
    license: { fileName: "licences.txt" },
  },
});
