import type { Messages } from "./messages/en";

const TIB = 2 ** 40;
const GIB = 2 ** 30;
const MIB = 2 ** 20;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Numbers and moments as text of one language; all moments are milliseconds since the epoch. */
export interface Format {
  count(value: number): string;
  tenths(value: number): string;
  percent(value: number): string;
  celsius(value: number): string;
  megahertz(value: number): string;
  bytes(value: number): string;
  /** "71.2 / 80.0 GiB"; a part that is not known is a dash. */
  memory(used: number | null, total: number | null): string;
  /** The same without tenths, for sums over many. */
  memorySum(used: number | null, total: number | null): string;
  /** "655 / 700 W" */
  power(draw: number | null, limit: number | null): string;
  kilowatts(watts: number): string;
  /** How long ago `then` was at `now`; what a clock puts into the future was just now. */
  ago(then: number, now: number): string;
  duration(milliseconds: number): string;
  clock(at: number): string;
  /** "14:02" */
  hourMinute(at: number): string;
  moment(at: number): string;
}

export function createFormat(lang: string, text: Messages): Format {
  const whole = new Intl.NumberFormat(lang, { maximumFractionDigits: 0 });
  const tenths = new Intl.NumberFormat(lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const relative = new Intl.RelativeTimeFormat(lang, { numeric: "always", style: "short" });
  const clock = new Intl.DateTimeFormat(lang, { timeStyle: "medium" });
  const hourMinute = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit" });
  const moment = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "long" });
  const known = (value: number | null, format: (value: number) => string): string =>
    value === null ? "—" : format(value);
  const gib = (value: number): string => tenths.format(value / GIB);

  return {
    count: (value) => whole.format(value),
    tenths: (value) => tenths.format(value),
    percent: (value) => `${whole.format(value)}%`,
    celsius: (value) => `${whole.format(value)} °C`,
    megahertz: (value) => `${whole.format(value)} MHz`,
    bytes: (value) => {
      if (value >= 10 * TIB) return `${tenths.format(value / TIB)} TiB`;
      return value >= GIB ? `${gib(value)} GiB` : `${whole.format(Math.ceil(value / MIB))} MiB`;
    },
    memory: (used, total) => `${known(used, gib)} / ${known(total, gib)} GiB`,
    memorySum: (used, total) => {
      const wholeGib = (value: number): string => whole.format(value / GIB);
      return `${known(used, wholeGib)} / ${known(total, wholeGib)} GiB`;
    },
    power: (draw, limit) =>
      limit === null
        ? `${known(draw, whole.format)} W`
        : `${known(draw, whole.format)} / ${whole.format(limit)} W`,
    kilowatts: (watts) => (watts < 1_000 ? `${whole.format(watts)} W` : `${tenths.format(watts / 1_000)} kW`),
    ago: (then, now) => {
      const passed = Math.max(0, now - then);
      if (passed < 2 * SECOND) return text.justNow;
      if (passed < MINUTE) return relative.format(-Math.floor(passed / SECOND), "second");
      if (passed < HOUR) return relative.format(-Math.floor(passed / MINUTE), "minute");
      if (passed < 2 * DAY) return relative.format(-Math.floor(passed / HOUR), "hour");
      return relative.format(-Math.floor(passed / DAY), "day");
    },
    duration: (milliseconds) => duration(Math.max(0, milliseconds), text),
    clock: (at) => clock.format(at),
    hourMinute: (at) => hourMinute.format(at),
    moment: (at) => moment.format(at),
  };
}

/** The two greatest units that are not zero: "2 d 4 h", "7 min". Intl has none that every browser knows. */
function duration(milliseconds: number, { unit }: Messages): string {
  const days = Math.floor(milliseconds / DAY);
  const hours = Math.floor((milliseconds % DAY) / HOUR);
  const minutes = Math.floor((milliseconds % HOUR) / MINUTE);
  const seconds = Math.floor((milliseconds % MINUTE) / SECOND);
  const pair = (a: number, aUnit: string, b: number, bUnit: string): string =>
    b === 0 ? `${a} ${aUnit}` : `${a} ${aUnit} ${b} ${bUnit}`;
  if (days > 0) return pair(days, unit.day, hours, unit.hour);
  if (hours > 0) return pair(hours, unit.hour, minutes, unit.minute);
  return minutes > 0 ? `${minutes} ${unit.minute}` : `${seconds} ${unit.second}`;
}

/** An RFC 3339 moment in milliseconds, or null where there is none or it is not one. */
export function parseMoment(text: string | null): number | null {
  const at = text === null ? Number.NaN : Date.parse(text);
  return Number.isNaN(at) ? null : at;
}
