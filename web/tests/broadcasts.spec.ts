import { readFile } from "node:fs/promises";
import { expect, test } from "./world.js";

// Far from the practice, so that no clock is taken for its.
test.use({ timezoneId: "Asia/Tokyo" });

test("a broadcast is looked at before it goes, and followed to its end", async ({ page, world }) => {
  await world.open(page, "#/broadcasts");
  await expect(page.getByRole("heading", { name: "No broadcasts yet" })).toBeVisible();
  await page.getByRole("button", { name: "New broadcast" }).click();
  await page.getByLabel("Title, for staff alone").fill("Closed on Friday");
  await page.getByRole("checkbox", { name: "SMS" }).check();
  await page.getByLabel("Subject").fill("We are closed on Friday");
  await page.getByLabel(/^Text\./).fill("Hello {{first_name}}, we are closed on Friday.");
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  const preview = page.getByRole("status", { name: "Preview" });
  await expect(preview.getByRole("heading", { name: "3 patients" })).toBeVisible();
  await expect(preview).toContainText("SMS: 2 would get it");
  await expect(preview).toContainText("1 skipped: No mobile number");

  // What was shown is what goes out.
  await page.getByLabel(/^Text\./).fill("Hello {{first_name}}, we are closed next Friday.");
  await expect(preview).toHaveCount(0);
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  await preview.getByRole("button", { name: "Send" }).click();
  const ask = page.getByRole("dialog", { name: "Send to 3 patients?" });
  await expect(ask).toContainText("2 by SMS");
  await ask.getByRole("button", { name: "Send" }).click();

  await expect(page.getByRole("heading", { name: "Closed on Friday", exact: true })).toBeVisible();
  await expect(page.getByText("Completed")).toBeVisible();
  const bar = page.getByRole("progressbar");
  await expect(bar).toHaveAttribute("aria-valuenow", "6");
  await expect(bar).toHaveAttribute("aria-valuemax", "6");
  const counts = page.locator(".counts li");
  await expect(counts.filter({ hasText: "Skipped" })).toContainText("2");
  await expect(counts.filter({ hasText: "Failed" })).toContainText("2");
  await expect(page.getByRole("button", { name: "Cancel rest" })).toHaveCount(0);

  const begun = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  const lines = (await readFile(await (await begun).path(), "utf8")).trim().split(/\r?\n/);
  expect(lines).toHaveLength(7);
  expect(lines.filter((line) => line.includes("bare"))).toHaveLength(2);

  await page.getByRole("link", { name: "Who was skipped, and why" }).click();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(2);
  await page.goto(`${world.server.url}/#/broadcasts`);
  await expect(page.getByRole("listitem").filter({ hasText: "Closed on Friday" })).toContainText("Completed");
});

test("the rest of a broadcast is cancelled, by administrators alone", async ({ page, world }) => {
  await world.open(page, "#/broadcasts/new");
  await page.getByLabel("Title, for staff alone").fill("Later");
  await page.getByLabel("Subject").fill("Later");
  await page.getByLabel(/^Text\./).fill("Much later.");
  await page.getByLabel(/^When/).fill(new Date(Date.now() + 48 * 3_600_000).toISOString().slice(0, 16));
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  await page.getByRole("status", { name: "Preview" }).getByRole("button", { name: "Send" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Schedule" }).click();
  await expect(page.getByRole("heading", { name: "Later" }).first()).toBeVisible();
  await expect(page.getByText("Scheduled")).toBeVisible();
  const address = page.url();

  await page.getByRole("button", { name: "Cancel rest" }).click();
  await page.getByRole("dialog", { name: "Cancel what has not gone yet?" }).getByRole("button", { name: "Cancel rest" }).click();
  await expect(page.locator("p.dim").filter({ hasText: "Cancelled" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Cancel rest" })).toHaveCount(0);

  await world.open(page, "", "staff");
  await page.goto(address);
  await expect(page.getByRole("heading", { name: "Later" }).first()).toBeVisible();
  await expect(page.getByRole("button", { name: "Cancel rest" })).toHaveCount(0);
});

test("a time that has passed is refused, and times are those of the practice", async ({ page, world }) => {
  await world.open(page, "#/broadcasts/new");
  await page.getByLabel("Title, for staff alone").fill("Winter");
  await page.getByLabel("Subject").fill("Winter");
  await page.getByLabel(/^Text\./).fill("We close early.");
  const when = page.getByLabel("When, by the practice’s clock in America/New York (empty: now)");
  await when.fill("2020-01-02T09:00");
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  await expect(page.getByRole("alert")).toContainText("has passed");
  const preview = page.getByRole("status", { name: "Preview" });
  await expect(preview).toHaveCount(0);

  const year = new Date().getFullYear() + 1;
  await when.fill(`${year}-01-05T09:00`);
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  await expect(preview).toContainText(`January 5, ${year} at 9:00 AM EST`);
  await preview.getByRole("button", { name: "Send" }).click();
  const ask = page.getByRole("dialog");
  await expect(ask).toContainText(`January 5, ${year} at 9:00 AM EST`);
  await ask.getByRole("button", { name: "Schedule" }).click();
  await expect(page.locator(`time[datetime="${year}-01-05T14:00:00.000Z"]`)).toBeVisible();
});

test("a broadcast that is being written outlives a look at something else and a lost sign-in", async ({ page, world }) => {
  await world.open(page, "#/broadcasts/new");
  const text = page.getByLabel(/^Text\./);
  await text.fill("A long one.");
  await page.getByRole("link", { name: "Conversations" }).click();
  await expect(page.getByRole("heading", { name: "No conversations yet" })).toBeVisible();
  await page.goBack();
  await expect(text).toHaveValue("A long one.");
  await page.getByLabel("Title, for staff alone").fill("Long");
  await page.getByLabel("Subject").fill("Long");
  await page.context().clearCookies();
  await page.getByRole("button", { name: "See whom it reaches" }).click();
  await page.getByLabel("Token").fill(world.server.token(world.id, "practice_admin"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(text).toHaveValue("A long one.");
});
