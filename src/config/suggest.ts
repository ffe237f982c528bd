/** "Did you mean": the nearest of the words that would have been right. Pure. */

/** Lower case letters and digits only, so that `max_message-size` is `maxMessageSize`. */
function plain(word: string): string {
  return word.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '');
}

/** Edit distance with neighbours swapped counting as one edit (optimal string alignment). */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min((row[j - 1] ?? 0) + 1, (last[j] ?? 0) + 1, change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** The word of `words` that `wrong` is most likely meant to be; undefined if none is near. */
export function nearest(wrong: string, words: readonly string[]): string | undefined {
  const wanted = plain(wrong).slice(0, 64);
  if (wanted === '') return undefined;
  let best: string | undefined;
  let least = Infinity;
  for (const word of words) {
    const cost = distance(wanted, plain(word));
    const allowed = Math.max(1, Math.floor(Math.max(wanted.length, word.length) / 3));
    // one letter is near to any other: words that short must match as they are
    if (cost < least && cost <= allowed && cost < Math.min(wanted.length, word.length)) {
      best = word;
      least = cost;
    }
  }
  return best;
}

/** `a, b or c`. */
export function listed(words: readonly string[]): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1) ?? ''}`;
}
