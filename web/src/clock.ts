/** How many messages the estimate looks back: enough to meet a quick one, few enough to follow a clock that steps. */
const WINDOW = 20;

/**
 * The hub's clock, as seen from a browser whose own may be wrong.
 *
 * A message is always received after it was sent, so each one names a lower bound of the difference between
 * the clocks; the greatest of the latest bounds belongs to the message that travelled fastest.
 */
export class HubClock {
  #bounds: number[] = [];

  observe(sentAt: number, receivedAt: number): void {
    if (!Number.isFinite(sentAt)) return;
    this.#bounds.push(sentAt - receivedAt);
    if (this.#bounds.length > WINDOW) this.#bounds.shift();
  }

  /** Whether any message has told the hub's time yet. */
  get known(): boolean {
    return this.#bounds.length > 0;
  }

  /** What was observed before this connection says nothing about the hub behind this one. */
  forget(): void {
    this.#bounds = [];
  }

  /** The hub's time at the browser's moment `at`, both in milliseconds since the epoch. */
  hubTime(at: number): number {
    return this.known ? at + Math.max(...this.#bounds) : at;
  }
}
