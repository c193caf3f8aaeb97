import { defineConfig } from "@playwright/test";

// Debian's Chromium: nothing is downloaded. In containers there is no sandbox for it to use.
export default defineConfig({
  testDir: "tests",
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
    viewport: { width: 1360, height: 850 },
    actionTimeout: 20_000,
  },
});
