import { Channel, expect, live, row, test } from "./world.js";

test("each state says in words what it is and why", async ({ page, world }) => {
  await world.send("pat", [Channel.IN_APP, Channel.SMS, Channel.EMAIL]);
  await world.send("off", [Channel.EMAIL, Channel.SMS]);
  await world.send("bare", [Channel.SMS]);
  await world.send("pat", [Channel.PUSH], { hours: 2 });
  await world.send("pat", [Channel.EMAIL], { hours: 2 });
  await world.open(page);
  await expect(row(page, "pat", "In-app", "Delivered")).toHaveCount(1);
  await expect(row(page, "pat", "SMS", "Delivered")).toHaveCount(1);
  await expect(row(page, "pat", "Email", "Sent")).toHaveCount(1);
  await expect(row(page, "off", "Email", "Failed")).toContainText("does not exist");
  await expect(row(page, "off", "SMS", "Failed")).toContainText("could not be reached");
  await expect(row(page, "bare", "SMS", "Skipped")).toContainText("No mobile number");
  await expect(row(page, "pat", "Push", "Skipped")).toContainText("The practice has Push off for this kind");
  await expect(row(page, "pat", "Email", "Pending")).toContainText("Next attempt");
});

test("what happens appears by itself, and waits while somebody reads", async ({ page, world }) => {
  await world.open(page);
  await expect(page.getByRole("heading", { name: "No deliveries yet" })).toBeVisible();
  await expect(page.getByText("SendNotification")).toBeVisible();
  await live(page);
  await world.send("pat", [Channel.SMS]);
  await expect(row(page, "pat", "SMS", "Delivered")).toHaveCount(1);
  await expect(page.getByRole("status").first()).toContainText("delivered");
  await row(page, "pat", "SMS").hover();
  await world.send("off", [Channel.SMS]);
  await page.getByRole("button", { name: "1 new" }).click();
  await expect(row(page, "off", "SMS", "Failed")).toHaveCount(1);
  await expect(page.locator("table.deliveries tbody tr").first()).toContainText("off");
});

test("filters count at once, live in the address, and say what is not there", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS, Channel.EMAIL], { reference: "visit-8842" });
  await world.send("off", [Channel.SMS]);
  await world.open(page);
  await expect(row(page, "off", "Failed")).toHaveCount(1);
  await page.locator("summary", { hasText: "Status" }).click();
  await page.getByRole("checkbox", { name: "Failed" }).check();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
  expect(page.url()).toContain("state=failed");
  await page.reload();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
  await page.goto(`${world.server.url}/#/deliveries?state=failed&channel=email&period=7d`);
  await expect(page.getByRole("heading", { name: "No failed email in the last 7 days" })).toBeVisible();
  await page.getByRole("button", { name: "Clear filters" }).first().click();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(3);
  await page.getByLabel("Reference").fill("visit-8842");
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(2);
  await page.getByLabel("Patient ID").fill("off");
  await expect(page.getByRole("heading", { name: "No deliveries of this patient with this reference" })).toBeVisible();
});

test("tiles count each channel, name what failed, and lead to it", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS, Channel.EMAIL]);
  await world.send("off", [Channel.SMS]);
  await world.send("bare", [Channel.SMS]);
  await world.open(page);
  await expect(row(page, "off", "Failed")).toHaveCount(1);
  await expect(row(page, "pat", "Email", "Sent")).toHaveCount(1);
  const counts = page.getByRole("region", { name: "Counts" });
  const tile = (channel: string) => counts.locator(".tile").filter({ hasText: channel });
  await expect(tile("SMS").locator(".whole")).toHaveText("SMS 3");
  await expect(tile("SMS")).toContainText("1 delivered – 50%");
  await expect(tile("SMS")).toContainText("1 failed – 50%");
  await expect(tile("SMS")).toContainText("1 skipped");
  await expect(tile("Email").locator(".whole")).toHaveText("Email 1");
  // Mail is rarely confirmed: that is no failure of it.
  await expect(tile("Email")).toHaveText(/1 sent.*No failures/s);
  await expect(tile("Email")).not.toContainText("%");
  await expect(tile("Push").locator(".whole")).toHaveText("Push 0");
  await expect(counts).toContainText("Whole hours, since");
  // What happens is counted by itself, and what has not gone as well.
  const pending = await world.send("pat", [Channel.SMS], { hours: 5 });
  await expect(tile("SMS").getByRole("link", { name: "1 pending" })).toBeVisible();
  await expect(tile("SMS").locator(".whole")).toHaveText("SMS 4");
  await world.notify.cancelNotification({ practiceId: world.id, notificationId: pending.notificationId });
  await expect(tile("SMS").getByRole("link", { name: "1 cancelled" })).toBeVisible();
  for (const link of await counts.locator(".tile a").all()) expect((await link.boundingBox())?.height).toBeGreaterThanOrEqual(24);
  await expect(counts).toContainText("Most frequent: Could not be reached (SMS, 1)");
  await counts.getByRole("button", { name: "7 days" }).click();
  await tile("SMS").getByRole("link", { name: "1 failed" }).click();
  expect(page.url()).toContain("channel=sms&state=failed&period=7d");
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
});

test("a change that leaves the filter leaves the list", async ({ page, world }) => {
  const notification = await world.send("pat", [Channel.EMAIL], { hours: 2 });
  await world.open(page, "#/deliveries?state=pending");
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
  await live(page);
  await world.notify.cancelNotification({ practiceId: world.id, notificationId: notification.notificationId });
  await expect(page.getByRole("heading", { name: "No pending deliveries" })).toBeVisible();
});

test("a delivery tells its story, its text and its reasons", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS, Channel.EMAIL]);
  await world.open(page);
  await row(page, "SMS", "Delivered").click();
  const panel = page.getByRole("complementary", { name: "Account notice by SMS" });
  await expect(panel.getByRole("heading", { name: "Timeline" })).toBeVisible();
  await expect(panel.locator(".timeline li").last()).toContainText("Delivered");
  await expect(panel.getByText(/^SM[0-9a-f]{32}$/)).toBeVisible();
  await expect(panel.getByText("That you read them is put on record.")).toBeVisible();
  await expect(panel.getByText("second floor")).toHaveCount(0);
  await page.reload();
  await expect(panel.getByRole("heading", { name: "Timeline" })).toBeVisible();
  await panel.locator(".siblings button").click();
  const mail = page.getByRole("complementary", { name: "Account notice by Email" });
  await mail.getByRole("button", { name: "Show text and why" }).click();
  await expect(mail.getByText("second floor")).toBeVisible();
  await expect(mail.locator(".decision[open]").getByText("Not opted out")).toBeVisible();
  await expect(mail.locator(".decision")).toHaveCount(4);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("complementary")).toHaveCount(0);
});

test("a delivery whose steps are no longer kept says so", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS]);
  await world.open(page);
  await expect(row(page, "SMS", "Delivered")).toBeVisible();
  world.server.age(`DELETE FROM delivery_event WHERE practice_id = '${world.id}'`);
  await row(page, "SMS", "Delivered").click();
  const panel = page.getByRole("complementary", { name: "Account notice by SMS" });
  await expect(panel.getByText("The steps of this delivery are no longer kept.")).toBeVisible();
  await expect(panel.locator(".timeline")).toHaveCount(0);
  await expect(panel.getByText(/^SM[0-9a-f]{32}$/)).toBeVisible();
});

test("what waits is cancelled, and what failed is sent again, after a question", async ({ page, world }) => {
  await world.send("pat", [Channel.EMAIL], { hours: 2 });
  await world.send("off", [Channel.SMS]);
  await world.open(page);
  await row(page, "pat", "Pending").click();
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel it" }).click();
  await expect(row(page, "pat", "Email")).toContainText("Cancelled");
  await page.keyboard.press("Escape");
  await row(page, "off", "Failed").click();
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Send again" }).click();
  await expect(row(page, "off", "Was sent again")).toHaveCount(1);
  await expect(page.locator(".siblings")).toContainText("which this one repeats");
});

test("whoever may not read text is not offered it", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS]);
  await world.open(page, "", "auditor");
  await row(page, "SMS", "Delivered").click();
  await expect(page.getByRole("heading", { name: "Timeline" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Show text and why" })).toHaveCount(0);
});

test("older ones are loaded when they are asked for", async ({ page, world }) => {
  const items = Array.from({ length: 130 }, (_, number) => ({
    requestId: `many-${number}`,
    notification: { patientId: "pat", channels: [Channel.IN_APP], payload: { case: "system", value: { title: "Hello", body: "Hello." } } as const },
  }));
  await world.notify.batchSendNotifications({ practiceId: world.id, items });
  await world.open(page);
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(100);
  await page.getByRole("button", { name: "Load older" }).click();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(130);
  await expect(page.getByRole("button", { name: "Load older" })).toHaveCount(0);
});

test("a dialog gives the focus back, and a button that is gone leaves it in the panel", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS], { hours: 5 });
  await world.open(page);
  await row(page, "Pending").click();
  const cancel = page.getByRole("button", { name: "Cancel", exact: true });
  await cancel.press("Enter");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(cancel).toBeFocused();
  await cancel.press("Enter");
  await page.getByRole("button", { name: "Cancel it" }).press("Enter");
  await expect(cancel).toHaveCount(0);
  await expect(page.locator("#detail-title")).toBeFocused();
  const help = page.getByRole("button", { name: "List of keys" });
  await help.press("Enter");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(help).toBeFocused();
});

test("on a phone the panel is all that can be reached, and Back closes it", async ({ page, world }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await world.send("pat", [Channel.SMS, Channel.EMAIL]);
  await world.open(page, "#/patients");
  await page.getByRole("link", { name: "Deliveries" }).click();
  await row(page, "SMS", "Delivered").locator(".row").press("Enter");
  const panel = page.locator(".panel");
  await expect(page.locator("#detail-title")).toBeFocused();
  await expect(page.locator("nav[inert]")).toHaveCount(1);
  await page.keyboard.press("Shift+Tab");
  expect(await page.evaluate(() => document.activeElement?.closest(".split > .main, .stats, header.top, nav"))).toBeNull();
  // Another delivery of the same message takes the place of the first.
  await panel.locator(".siblings button").click();
  await expect(page.getByRole("complementary", { name: "Account notice by Email" })).toBeVisible();
  await page.goBack();
  await expect(panel).toHaveCount(0);
  await expect(row(page, "Email").locator(".row")).toBeFocused();
  await row(page, "SMS").locator(".row").press("Enter");
  await page.getByRole("button", { name: "Close" }).press("Enter");
  await expect(panel).toHaveCount(0);
  await expect(row(page, "SMS").locator(".row")).toBeFocused();
  await expect(page.locator("[inert]")).toHaveCount(0);
  await page.goBack();
  await expect(page.getByRole("heading", { level: 1, name: "Patients" })).toBeVisible();
});

test("arrows go through the rows, and elsewhere belong to what has the focus", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS, Channel.EMAIL]);
  await world.open(page);
  const rows = page.locator("table.deliveries .row");
  await expect(rows).toHaveCount(2);
  await page.keyboard.press("ArrowDown");
  await expect(rows.first()).toBeFocused();
  await page.keyboard.press("ArrowDown");
  await expect(rows.last()).toBeFocused();
  await page.keyboard.press("Enter");
  const heading = page.locator("#detail-title");
  await expect(heading).toBeFocused();
  await page.keyboard.press("ArrowUp");
  await expect(heading).toBeFocused();
  await page.keyboard.press("k");
  await expect(rows.last()).toBeFocused();
});
