import { Channel, expect, live, row, test } from "./world.js";

test("a server that dies leaves what is known, says so, and loses nothing", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS]);
  await world.open(page);
  await live(page);
  await world.server.kill();
  await expect(page.locator(".badge")).toHaveText(/^Reconnecting \(in \d+ s\)$/);
  await expect(row(page, "pat", "SMS")).toHaveCount(1);
  // Three signs of life were missed.
  await expect(page.locator(".badge")).toHaveText(/^Stale since \d+:\d\d [AP]M$/, { timeout: 30_000 });
  await expect(page.locator(".stale table")).toBeVisible();
  await expect(row(page, "pat", "SMS")).toHaveCount(1);
  await world.server.up();
  await page.getByRole("button", { name: "Try now" }).click();
  await live(page);
  await expect(page.locator(".stale")).toHaveCount(0);
  await world.send("off", [Channel.SMS]);
  await expect(row(page, "off", "SMS", "Failed")).toHaveCount(1);
});

test("what happened while nobody listened comes with the next connection", async ({ page, world }) => {
  await world.open(page);
  await live(page);
  await page.keyboard.press("p");
  await expect(page.locator(".badge")).toHaveText("Paused");
  await world.send("pat", [Channel.SMS]);
  await expect.poll(async () => (await world.notify.listDeliveries({ practiceId: world.id })).deliveries[0]?.state).toBe(4);
  await expect(row(page, "pat", "SMS")).toHaveCount(0);
  await page.keyboard.press("p");
  await live(page);
  await expect(row(page, "pat", "SMS", "Delivered")).toHaveCount(1);
});

test("a tab that nobody looks at lets go of its stream, and misses nothing", async ({ page, world }) => {
  test.setTimeout(150_000);
  const turn = (hidden: boolean) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  let ended = 0;
  page.on("requestfailed", (request) => void (request.url().endsWith("/WatchDeliveries") && ended++));
  await world.open(page);
  await live(page);
  await turn(true);
  expect(ended).toBe(0);
  await expect.poll(() => ended, { timeout: 80_000 }).toBe(1);
  await world.send("pat", [Channel.SMS]);
  await expect.poll(async () => (await world.notify.listDeliveries({ practiceId: world.id })).deliveries[0]?.state).toBe(4);
  await expect(row(page, "pat", "SMS")).toHaveCount(0);
  await turn(false);
  await expect(row(page, "pat", "SMS", "Delivered")).toHaveCount(1);
});

test("where nothing is followed there is nothing to pause", async ({ page, world }) => {
  await world.open(page, "#/settings");
  await expect(page.getByRole("heading", { name: "Quiet hours" })).toBeVisible();
  await page.keyboard.press("p");
  await page.keyboard.press("p");
  await page.keyboard.press("p");
  await expect(page.locator(".badge")).toHaveCount(0);
  await page.getByRole("link", { name: "Deliveries", exact: true }).click();
  await live(page);
});

test("a history that is gone is no silent gap", async ({ page, world }) => {
  await world.server.kill();
  world.server.keep();
  await world.server.up();
  await world.send("pat", [Channel.SMS]);
  await world.open(page);
  await expect(row(page, "pat", "SMS", "Delivered")).toHaveCount(1);
  await live(page);
  // The page has seen more than an older copy of the database knows.
  await world.server.kill();
  world.server.restore();
  await world.server.up();
  await expect(page.getByText("Caught up after a gap")).toBeVisible({ timeout: 60_000 });
  await live(page);
  await expect(row(page, "pat", "SMS")).toHaveCount(0);
  await world.send("off", [Channel.IN_APP]);
  await expect(row(page, "off", "In-app", "Delivered")).toHaveCount(1);
});

test("a page that finds no server says so, and goes on once there is one", async ({ page, world }) => {
  await world.open(page);
  await live(page);
  await page.goto(`${world.server.url}/#/patients`);
  await expect(page.getByRole("heading", { name: "Patients" })).toBeVisible();
  await world.server.kill();
  await page.goto(`${world.server.url}/#/deliveries`);
  const list = page.locator(".main");
  await expect(list.getByRole("alert")).toContainText("The server cannot be reached.");
  await world.server.up();
  await list.getByRole("button", { name: "Try again" }).click();
  await live(page);
});

test("a flood of changes is drawn four times a second at most, and leaves nothing behind", async ({ page, world }) => {
  test.setTimeout(300_000);
  const changes = Number(process.env.HEEDWELL_TEST_CHANGES ?? 2_000);
  await world.send("pat", [Channel.IN_APP]);
  await world.open(page);
  await live(page);
  await expect(row(page, "pat")).toHaveCount(1);
  // Each render that changes a row is one call.
  const draws = await page.locator("table.deliveries tbody").evaluateHandle((rows) => {
    const times: number[] = [];
    new MutationObserver(() => times.push(performance.now())).observe(rows, { childList: true, subtree: true, characterData: true });
    return times;
  });
  const cdp = await page.context().newCDPSession(page);
  let number = 0;
  /** Each of these notices is new, and then delivered. Yields how much the page holds once the last of them is shown. */
  const flood = async (notices: number, last: string) => {
    const item = () => ({
      requestId: `flood-${number++}`,
      notification: { patientId: "pat", channels: [Channel.IN_APP], payload: { case: "system", value: { title: "Hello", body: "Hello." } } as const },
    });
    for (let sent = 0; sent < notices; sent += 500) {
      await world.notify.batchSendNotifications({ practiceId: world.id, items: Array.from({ length: Math.min(500, notices - sent) }, item) });
    }
    await world.send(last, [Channel.SMS]);
    await expect(row(page, last, "SMS").first()).toContainText(/Failed|Skipped/, { timeout: 240_000 });
    await cdp.send("HeapProfiler.collectGarbage");
    return (await cdp.send("Runtime.getHeapUsage")).usedSize;
  };
  const half = Math.ceil(changes / 4);
  const before = await flood(half, "off");
  const after = await flood(half, "bare");
  expect(await page.locator("table.deliveries tbody tr").count()).toBeLessThanOrEqual(600);
  expect(after).toBeLessThan(before * 1.1 + 1_000_000);
  const times = await draws.jsonValue();
  const seconds = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 1_000;
  expect(times.length).toBeGreaterThan(2);
  expect(times.length - 1).toBeLessThanOrEqual(4 * seconds);
  console.log(`${changes} changes: ${times.length} renders in ${seconds.toFixed(1)} s, ${before} and ${after} bytes`);
});
