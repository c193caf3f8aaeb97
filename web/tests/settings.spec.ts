import { NotificationKind } from "./gen/heedwell/v1/types_pb.js";
import { Channel, expect, test } from "./world.js";

test("what keeps a channel from sending is said where staff look", async ({ page, world }) => {
  await world.preferences.updatePracticeSettings({
    practiceId: world.id,
    settings: { sms: { accountSid: "AC00000000000000000000000000000001" } },
    updateMask: { paths: ["sms"] },
  });
  await world.open(page);
  const banner = page.getByRole("region", { name: "Channels that cannot send" });
  await expect(banner).toContainText("SMS cannot send.");
  await expect(banner).not.toContainText("Push");
  await banner.getByRole("link", { name: "To the settings" }).click();
  await expect(page.locator(".setup > li").filter({ hasText: "SMS" })).toContainText("Not set up");
  await expect(page.locator(".findings").first()).toContainText("Must be mended");
});

test("channels of a kind are changed and hold for the next send", async ({ page, world }) => {
  await world.open(page, "#/settings");
  await page.getByRole("checkbox", { name: "Account notice sends by Email" }).uncheck();
  await page.getByRole("checkbox", { name: "Account notice by SMS may be chosen" }).uncheck();
  await page.getByRole("button", { name: "Save" }).first().click();
  await expect(page.getByRole("button", { name: "Undo" })).toHaveCount(0);
  const { settings } = await world.preferences.getPracticeSettings({ practiceId: world.id });
  const kind = settings?.kindChannels.find((each) => each.kind === 9);
  expect(kind?.channels).toEqual([Channel.IN_APP]);
  expect(kind?.offeredChannels).toEqual([Channel.IN_APP, Channel.EMAIL, Channel.PUSH]);
  const sent = await world.send("pat", []);
  expect(sent.deliveries.map(({ channel }) => channel)).toEqual([Channel.IN_APP]);
});

test("quiet hours are set and taken away", async ({ page, world }) => {
  await world.open(page, "#/settings");
  const quiet = page.locator(".sheet").filter({ hasText: "Quiet hours" });
  await quiet.getByLabel("From").fill("21:00");
  await quiet.getByLabel("Until").fill("08:00");
  await quiet.getByRole("button", { name: "Save" }).click();
  await expect(quiet.getByRole("button", { name: "Have none" })).toBeVisible();
  const read = async () => (await world.preferences.getPracticeSettings({ practiceId: world.id })).settings?.quietHours;
  expect((await read())?.start?.hours).toBe(21);
  await quiet.getByRole("button", { name: "Have none" }).click();
  await expect(quiet.getByText("There are none.")).toBeVisible();
  expect(await read()).toBeUndefined();
});

test("a test message shows the provider's own answer", async ({ page, world }) => {
  await world.open(page, "#/settings");
  await page.getByLabel("Phone (+1…) or mailbox").fill("+12025550142");
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("button", { name: "Send test" }).click();
  await expect(page.getByRole("status").filter({ hasText: "Sent" })).toContainText(/SM[0-9a-f]{32}/);
  await page.getByLabel("Phone (+1…) or mailbox").fill("no number");
  await page.getByRole("button", { name: "Add" }).click();
  await expect(page.getByRole("alert")).toContainText("The phone or mailbox must");
});

test("somebody else's change is not overwritten", async ({ page, world }) => {
  await world.open(page, "#/settings");
  const box = page.getByRole("checkbox", { name: "Account notice sends by Email" });
  await expect(box).toBeChecked();
  await world.preferences.updatePracticeSettings({ practiceId: world.id, settings: { linkHosts: ["portal.acme.example"] }, updateMask: { paths: ["link_hosts"] } });
  await box.uncheck();
  await page.getByRole("button", { name: "Save" }).first().click();
  await expect(page.getByRole("alert")).toContainText("Somebody else changed this");
  await expect(page.getByText("portal.acme.example")).toBeVisible();
  // What was changed here stands over what was loaded, to be looked at and repeated.
  await expect(box).not.toBeChecked();
  await page.getByRole("button", { name: "Save" }).first().click();
  await expect(page.getByRole("button", { name: "Undo" })).toHaveCount(0);
  const { settings } = await world.preferences.getPracticeSettings({ practiceId: world.id });
  expect(settings?.linkHosts).toEqual(["portal.acme.example"]);
  expect(settings?.kindChannels.find((each) => each.kind === 9)?.channels).toEqual([Channel.IN_APP, Channel.SMS]);
});

test("what is not saved yet outlives another change to the settings", async ({ page, world }) => {
  await world.open(page, "#/settings");
  const box = page.getByRole("checkbox", { name: "Account notice sends by Email" });
  await box.uncheck();
  await page.getByLabel("From").fill("21:00");
  await page.getByLabel("Phone (+1…) or mailbox").fill("office@example.com");
  await page.getByRole("button", { name: "Add" }).click();
  await expect(page.getByRole("button", { name: "Send test" })).toBeVisible();
  await expect(box).not.toBeChecked();
  await expect(page.getByLabel("From")).toHaveValue("21:00");
});

test("whoever chose nothing gets broadcasts over all that is offered", async ({ page, world }) => {
  await world.open(page, "#/patients/pat");
  const by = (channel: string) => page.getByRole("checkbox", { name: `Announcement by ${channel}` });
  await expect(by("Email")).toBeChecked();
  await by("SMS").uncheck();
  await page.getByRole("button", { name: "Save for the patient" }).click();
  await expect(page.getByRole("button", { name: "Undo" })).toHaveCount(0);
  const { preferences } = await world.preferences.getPatientPreferences({ practiceId: world.id, patientId: "pat" });
  const choice = preferences?.choices.find(({ kind }) => kind === NotificationKind.ANNOUNCEMENT)?.channels?.values ?? [];
  expect(choice).toContain(Channel.EMAIL);
  expect(choice).not.toContain(Channel.SMS);
});

test("staff look and do not touch", async ({ page, world }) => {
  await world.open(page, "#/settings", "staff");
  await expect(page.getByText("Changing it needs the role")).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Account notice sends by Email" })).toBeDisabled();
  await expect(page.getByRole("heading", { name: "Test message" })).toHaveCount(0);
});
