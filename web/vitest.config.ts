import { defineConfig } from "vitest/config";

export default defineConfig({
  // The tests of the colours read them where they stand.
  test: { css: true },
});
