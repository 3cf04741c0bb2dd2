/** Progress for people: one line a step, with the seconds it takes while it takes them. */

const terminal = process.stdout.isTTY === true;

/** Runs `work` under a line that says what is going on and how long it took. */
export async function step(label, work) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  let line = '';
  const draw = (text) => {
    process.stdout.write(`\r${text}${' '.repeat(Math.max(0, line.length - text.length))}`);
    line = text;
  };
  // A log gets one line when a step begins to feel long; a terminal gets the seconds as they pass.
  const ticker = terminal
    ? setInterval(() => draw(`  · ${label} … ${seconds()}`), 100)
    : setTimeout(() => console.log(`  · ${label} …`), 1000);
  const end = (mark) => {
    clearInterval(ticker);
    const text = `  ${mark} ${label.padEnd(56)} ${seconds().padStart(8)}`;
    if (terminal) draw(text);
    process.stdout.write(terminal ? '\n' : `${text}\n`);
  };
  try {
    const result = await work();
    end('✓');
    return result;
  } catch (error) {
    end('✗');
    throw error;
  }
}
