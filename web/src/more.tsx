// The views that the first visit has no need of; they come in a file of their own.
export { Broadcasts } from "./more/broadcasts.js";
export { Conversations } from "./more/conversations.js";
export { Patients } from "./more/patients.js";
export { Settings } from "./more/settings.js";
