/** The ways in which an operation says no. */

/** This path cannot be pushed, whatever else happens: shown to a person. Never leaves the planner. */
export class Refused extends Error {}

/** A quota or limit has no room for it. What else the same push frees may make some. Never leaves the planner. */
export class OverLimit extends Refused {}

/** The volume is not what the change was made for: read again and reconcile. Never leaves the planner. */
export class Stale extends Error {}

/** Why a directory could not go; the planner knows whether the reason is an entry that was refused. */
export class NotEmpty extends Stale {}
