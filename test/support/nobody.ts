/** Runs a piece of a test without privileges. */

const NOBODY = 65_534;

/**
 * Runs `work` with the effective ids of nobody when this process is root, else as who it is. Files are made and checked
 * as that user; the process stays the same.
 */
export async function asNobody<T>(work: () => T | Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.setegid!(NOBODY);
  process.seteuid!(NOBODY);
  try {
    return await work();
  } finally {
    process.seteuid!(0);
    process.setegid!(0);
  }
}
