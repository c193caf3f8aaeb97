import { Channel, expect, live, row, test } from "./world.js";

test("a patient is found and shows everything that was sent", async ({ page, world }) => {
  await world.send("pat", [Channel.SMS]);
  await world.send("off", [Channel.IN_APP]);
  await world.open(page, "#/patients");
  await page.getByLabel("Patient: ID").fill("Pa");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("button", { name: "Pat Doe" }).click();
  await expect(page.getByRole("heading", { name: "Pat Doe" })).toBeVisible();
  await expect(row(page, "SMS", "Delivered")).toHaveCount(1);
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
  await live(page);
  await world.send("pat", [Channel.IN_APP]);
  await expect(row(page, "In-app", "Delivered")).toHaveCount(1);
});

test("consent goes on record with its evidence, and counts at once", async ({ page, world }) => {
  await world.open(page, "#/patients/pat");
  const consent = page.getByRole("table", { name: "Consent per channel" });
  const sms = consent.getByRole("row").filter({ hasText: "SMS" });
  await expect(sms).toContainText("Nothing on record");
  await sms.getByRole("button", { name: "Record" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: "wants nothing more by SMS" }).check();
  await dialog.getByLabel("Evidence").fill("Said so on the phone");
  await dialog.getByRole("button", { name: "Put on record" }).click();
  await expect(sms).toContainText("Opted out");
  await expect(page.locator(".ledger li")).toContainText(/Entry \d+ of the practice’s ledger, decided \w+ \d+, 20\d\d, .*Said so on the phone/s);
  await expect(page.locator(".facts").filter({ hasText: "Can be used" })).toContainText("Opted out of SMS");
  await world.send("pat", [Channel.SMS]);
  await expect(row(page, "SMS", "Skipped")).toContainText("Opted out of SMS");
  await sms.getByRole("button", { name: "Record" }).click();
  await dialog.getByRole("radio", { name: "agrees to SMS" }).check();
  await dialog.getByLabel("Evidence").fill("Form in the cabinet");
  await dialog.getByRole("button", { name: "Put on record" }).click();
  await expect(page.locator(".ledger li")).toHaveCount(2);
  await expect(sms).toContainText("Opted in");
});

test("staff may not opt in after STOP, and are told why", async ({ page, world }) => {
  await world.text("+12025550142", "STOP");
  await world.open(page, "#/patients/pat");
  const sms = page.getByRole("table", { name: "Consent per channel" }).getByRole("row").filter({ hasText: "SMS" });
  await expect(sms).toContainText("Opted out by keyword");
  await sms.getByRole("button", { name: "Record" }).click();
  await page.getByRole("dialog").getByLabel("Evidence").fill("Asked on the phone");
  await page.getByRole("dialog").getByRole("button", { name: "Put on record" }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("STOP");
});

test("channels are chosen for the patient, and given back to the practice", async ({ page, world }) => {
  await world.open(page, "#/patients/pat");
  const box = page.getByRole("checkbox", { name: "Appointment reminder by SMS" });
  await expect(box).toBeChecked();
  await box.uncheck();
  await page.getByRole("button", { name: "Save for the patient" }).click();
  await expect(page.getByRole("button", { name: "As the practice has it" })).toBeVisible();
  const read = async () => (await world.preferences.getPatientPreferences({ practiceId: world.id, patientId: "pat" })).preferences?.choices[0]?.channels?.values;
  await expect.poll(read).toEqual([Channel.IN_APP, Channel.EMAIL]);
  await page.getByRole("button", { name: "As the practice has it" }).click();
  await page.getByRole("button", { name: "Save for the patient" }).click();
  await expect(page.getByRole("button", { name: "As the practice has it" })).toHaveCount(0);
  await expect.poll(read).toBeUndefined();
});

test("an unknown patient is said to be unknown", async ({ page, world }) => {
  await world.open(page, "#/patients/nobody");
  await expect(page.getByRole("alert")).toBeVisible();
});
