import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { Channel, type World, expect, live, row, test } from "./world.js";

/** WCAG 2.2 AA, as far as a machine can tell. */
async function check(page: Page): Promise<void> {
  // What the bar covers while the page is scrolled is reached by scrolling.
  await page.evaluate(() => scrollTo(0, 0));
  const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`)).toEqual([]);
}

/** Something of everything. */
async function fill(world: World): Promise<void> {
  await world.send("pat", [Channel.IN_APP, Channel.EMAIL, Channel.SMS]);
  await world.send("off", [Channel.SMS]);
  await world.send("bare", [Channel.SMS]);
  await world.send("pat", [Channel.EMAIL], { hours: 2 });
  await world.text("+12025550142", "Please stop texting me");
  await world.text("+12025550177", "Who is this?");
}

/** Each view once it shows something. */
async function views(page: Page, url: string, look: (name: string) => Promise<void>): Promise<void> {
  await expect(row(page, "off", "Failed")).toHaveCount(1);
  await look("deliveries");
  await page.locator("summary", { hasText: "Kind" }).click();
  await look("filter");
  await page.locator("summary", { hasText: "Kind" }).click();
  await row(page, "pat", "SMS").getByRole("button").click();
  await page.getByRole("button", { name: "Show text and why" }).click();
  await expect(page.getByRole("heading", { name: "Why" })).toBeVisible();
  await look("detail");
  await page.goto(`${url}/#/conversations`);
  await page.locator(".threads a").filter({ hasText: "pat" }).click();
  await expect(page.locator(".bubble")).toBeVisible();
  await look("conversation");
  await page.goto(`${url}/#/conversations?subset=unlinked`);
  await page.locator(".threads a").click();
  await expect(page.getByText("Nobody is known to have this number")).toBeVisible();
  await look("unknown number");
  await page.goto(`${url}/#/patients/pat`);
  await expect(page.locator(".ledger li")).toHaveCount(1);
  await expect(row(page, "SMS").first()).toBeVisible();
  await look("patient");
  await page.getByRole("button", { name: "Record" }).first().click();
  await look("consent");
  await page.keyboard.press("Escape");
  await page.goto(`${url}/#/settings`);
  await expect(page.getByRole("heading", { name: "Test message" })).toBeVisible();
  await look("settings");
  await page.goto(`${url}/#/broadcasts/new`);
  await expect(page.getByRole("heading", { name: "New broadcast" })).toBeVisible();
  await look("broadcast");
  await page.locator(".account summary").click();
  await page.getByRole("link", { name: "API reference" }).click();
  await expect(page.getByRole("heading", { name: "NotifyService" })).toBeVisible();
  await page.getByRole("navigation").getByRole("link", { name: "WatchDeliveries" }).click();
  await expect(page.getByRole("heading", { name: "WatchDeliveries", exact: true })).toBeInViewport();
  await look("reference");
}

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(() => {
    test.use({ colorScheme });
    test(`nothing stands in anybody's way, ${colorScheme}`, async ({ page, world }) => {
      test.setTimeout(240_000);
      await page.goto(world.server.url);
      await expect(page.getByLabel("Token")).toBeVisible();
      await check(page);
      await fill(world);
      await world.open(page);
      await views(page, world.server.url, () => check(page));
    });
  });
}

test("everything fits into 320 pixels", async ({ page, world }) => {
  test.setTimeout(240_000);
  await page.setViewportSize({ width: 320, height: 640 });
  await fill(world);
  await world.open(page);
  await views(page, world.server.url, async (name) => {
    const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    expect(width, name).toBeLessThanOrEqual(room ?? 0);
  });
});

test("the keyboard reaches everything, and rows keep their focus", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS]);
  await world.send("off", [Channel.SMS]);
  await world.open(page);
  await expect(row(page, "off", "Failed")).toHaveCount(1);
  await live(page);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const focused = page.locator("tr").filter({ has: page.locator(":focus") });
  await expect(focused).toContainText("pat");
  await world.send("bare", [Channel.SMS]);
  await expect(page.getByRole("button", { name: "1 new" })).toBeVisible();
  await expect(focused).toContainText("pat");
  await page.keyboard.press("k");
  await expect(focused).toContainText("off");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Account notice by SMS" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(focused).toContainText("off");
  await page.keyboard.press("/");
  await expect(page.locator("summary", { hasText: "Status" })).toBeFocused();
  await page.getByLabel("Reference").focus();
  await page.keyboard.type("gcjp?");
  expect(page.url()).not.toContain("conversations");
  await page.getByLabel("Reference").fill("");
  await page.locator("#main").focus();
  await page.keyboard.press("g");
  await page.keyboard.press("c");
  await expect(page.getByRole("link", { name: "Conversations" })).toHaveAttribute("aria-current", "page");
  for (const [key, view] of [["p", "Patients"], ["b", "Broadcasts"], ["s", "Settings"], ["d", "Deliveries"]] as const) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await expect(page.getByRole("link", { name: view })).toHaveAttribute("aria-current", "page");
  }
});

test("keys of one letter can be switched off", async ({ page, world }) => {
  await world.open(page);
  await live(page);
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).getByRole("checkbox").uncheck();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await page.keyboard.press("p");
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await live(page);
  await page.reload();
  await live(page);
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toHaveCount(0);
});

test("nothing moves for those who asked for that", async ({ page, world }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await world.open(page);
  await live(page);
  await world.send("pat", [Channel.SMS]);
  await expect(row(page, "Delivered")).toHaveClass(/marked/);
  expect(await row(page, "Delivered").locator("td").first().evaluate((cell) => getComputedStyle(cell).animationName)).toBe("none");
});
