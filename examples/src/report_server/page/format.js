// Numbers as they are read.

const digits = (most) => new Intl.NumberFormat("en", { maximumFractionDigits: most });
const [whole, tenths, hundredths] = [digits(0), digits(1), digits(2)];

function count(number) {
  if (number >= 999_999.5) return `${tenths.format(number / 1e6)} M`;
  return (number > 0 && number < 10 ? tenths : whole).format(number);
}

function millis(ms) {
  if (ms === null) return "–";
  if (ms < 0.1) return `${(ms < 0.01 ? tenths : whole).format(ms * 1000)} µs`;
  return ms < 999.5 ? `${(ms < 10 ? tenths : whole).format(ms)} ms` : `${tenths.format(ms / 1000)} s`;
}

function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${count(number) === "1" ? one : many}`;
}
