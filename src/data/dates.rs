//! The task that the project makes itself: dates as people write them, to ISO 8601.
//!
//! | written | read as |
//! |---|---|
//! | `3 May 1998`, `the 3rd of may, 1998`, `MAY 3RD '98`, `Sun 3 May 98` | day, month by name, year, in the order written |
//! | `Sunday, May the 3rd, 1998` | the weekday is always the right one |
//! | `1998.5.3`, `1998/05/03`, `19980503`, `1998 May 3` | a four-digit year in front: year, month, day |
//! | `3.5.1998`, `03.05.98` | dots with the year last: day, month, year |
//! | `23/05/1998`, `05/23/98` | slashes with the year last: only where one number exceeds 12 or both are equal, so that there is one reading |
//!
//! A year of two digits follows POSIX `strptime` `%y`: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068.
//! Years run from 1900 to 2099; every date exists in the (proleptic) Gregorian calendar.

use std::collections::HashSet;

use super::pairs::Pair;
use crate::config::checked::DatesTask;
use s2s_kernels::random::Random;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 1900 to 2099.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

impl Date {
    /// Days of a month.
    pub fn days_in(year: u32, month: u32) -> u32 {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// 0 for Sunday (Sakamoto's method).
    pub fn weekday(self) -> usize {
        const OFFSET: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let y = if self.month < 3 { self.year - 1 } else { self.year };
        ((y + y / 4 - y / 100 + y / 400 + OFFSET[self.month as usize - 1] + self.day) % 7) as usize
    }

    /// ISO 8601, `1998-05-03`.
    pub fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn draw(random: &mut Random) -> Self {
        let year = 1900 + random.below(200) as u32;
        let month = 1 + random.below(12) as u32;
        let day = 1 + random.below(Self::days_in(year, month) as usize) as u32;
        Self { year, month, day }
    }
}

fn ordinal(day: u32) -> String {
    let suffix = match (day % 10, day / 10) {
        (1, tens) if tens != 1 => "st",
        (2, tens) if tens != 1 => "nd",
        (3, tens) if tens != 1 => "rd",
        _ => "th",
    };
    format!("{day}{suffix}")
}

/// One way of writing `date`, drawn by `random`.
pub fn write(date: Date, random: &mut Random) -> String {
    let form = random.below(16);
    let text = if form < 11 { in_words(date, form, random) } else { in_numbers(date, form, random) };
    match random.below(6) {
        0 => text.to_lowercase(),
        1 => text.to_uppercase(),
        _ => text,
    }
}

/// Two digits only where they have one reading; `apostrophe` allows `'98`.
fn year(date: Date, apostrophe: bool, random: &mut Random) -> String {
    if !(1969..=2068).contains(&date.year) || !random.one_in(4) {
        return date.year.to_string();
    }
    let mark = if apostrophe && random.one_in(2) { "'" } else { "" };
    format!("{mark}{:02}", date.year % 100)
}

fn in_words(date: Date, form: usize, random: &mut Random) -> String {
    let full = MONTHS[date.month as usize - 1];
    let month = match random.below(4) {
        // May is its own abbreviation and September has two.
        0 if full.len() > 3 => format!("{}.", &full[..3]),
        1 if date.month == 9 && random.one_in(2) => "Sept".to_owned(),
        1 => full[..3].to_owned(),
        _ => full.to_owned(),
    };
    let weekday = WEEKDAYS[date.weekday()];
    let weekday = if random.one_in(2) { &weekday[..3] } else { weekday };
    let year = year(date, true, random);
    let nth = ordinal(date.day);
    let day = if random.one_in(2) { nth.clone() } else { date.day.to_string() };
    let comma = random.choose(&[",", ""]);
    match form {
        0 | 1 => format!("{day} {month} {year}"),
        2 | 3 => format!("{month} {day}{comma} {year}"),
        4 => format!("{weekday}, {month} the {nth}{comma} {year}"),
        5 => format!("{weekday}{comma} {day} {month} {year}"),
        6 => format!("{weekday}{comma} {month} {day}{comma} {year}"),
        7 => format!("the {nth} of {month}{comma} {year}"),
        8 => format!("{nth} of {month} {year}"),
        9 => format!("{} {month} {}", date.year, date.day),
        _ => format!("{:02}-{}-{year}", date.day, &full[..3]),
    }
}

fn in_numbers(date: Date, form: usize, random: &mut Random) -> String {
    let padded = random.one_in(2);
    let two = |n: u32| if padded { format!("{n:02}") } else { n.to_string() };
    let (day, month) = (two(date.day), two(date.month));
    let one_reading = date.day > 12 || date.day == date.month;
    match form {
        11 => format!("{}.{month}.{day}", date.year),
        12 => format!("{}/{month}/{day}", date.year),
        13 => format!("{}{:02}{:02}", date.year, date.month, date.day),
        14 if one_reading => {
            let year = year(date, false, random);
            if random.one_in(2) { format!("{day}/{month}/{year}") } else { format!("{month}/{day}/{year}") }
        }
        _ => format!("{day}.{month}.{}", year(date, false, random)),
    }
}

/// Training and validation pairs, all with different source texts; the same for the same task on every
/// machine.
pub fn task(task: &DatesTask) -> (Vec<Pair>, Vec<Pair>) {
    let mut random = Random::new(task.seed, 0);
    let mut seen = HashSet::new();
    let mut pairs = Vec::with_capacity(task.train + task.dev);
    let mut repeats = 0;
    // A million different texts are soon found; far beyond that they run out, and a smaller set is the
    // answer.
    while pairs.len() < task.train + task.dev && repeats < 1_000_000 {
        let date = Date::draw(&mut random);
        let source = write(date, &mut random);
        if seen.insert(source.clone()) {
            repeats = 0;
            pairs.push(Pair { source, target: date.iso() });
        } else {
            repeats += 1;
        }
    }
    let dev = pairs.len() * task.dev / (task.train + task.dev);
    let train = pairs.split_off(dev);
    (train, pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: DatesTask = DatesTask { train: 5_000, dev: 500, seed: 1 };

    /// An independent reading of what [`write`] writes, by the rules of the module's table.
    fn read(text: &str) -> Option<Date> {
        let text = text.to_lowercase();
        let month = MONTHS.iter().position(|m| text.contains(&m.to_lowercase()[..3])).map(|m| m as u32 + 1);
        let runs: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|r| !r.is_empty()).collect();
        let long = |run: &str| -> Option<u32> {
            let n: u32 = run.parse().ok()?;
            Some(match run.len() {
                4 => n,
                _ if n >= 69 => 1900 + n,
                _ => 2000 + n,
            })
        };
        let short = |run: &str| run.parse::<u32>().ok();
        let date = |year, month, day| Some(Date { year: long(year)?, month, day: short(day)? });
        match (&runs[..], month) {
            ([all], None) if all.len() == 8 => date(&all[..4], short(&all[4..6])?, &all[6..]),
            ([y, d], Some(m)) if y.len() == 4 => date(y, m, d),
            ([d, y], Some(m)) => date(y, m, d),
            ([y, m, d], None) if y.len() == 4 => date(y, short(m)?, d),
            ([d, m, y], None) if text.contains('.') => date(y, short(m)?, d),
            ([a, b, y], None) if short(b)? > 12 => date(y, short(a)?, b),
            ([a, b, y], None) => date(y, short(b)?, a),
            _ => None,
        }
    }

    #[test]
    fn every_written_date_reads_back_as_its_target() {
        let (train, dev) = task(&SMALL);
        assert_eq!((train.len(), dev.len()), (5_000, 500));
        for pair in train.iter().chain(&dev) {
            assert_eq!(
                read(&pair.source).map(Date::iso).as_deref(),
                Some(pair.target.as_str()),
                "{}",
                pair.source
            );
        }
    }

    #[test]
    fn every_target_is_a_day_of_the_calendar_and_leap_days_occur() {
        let (train, _) = task(&DatesTask { train: 20_000, ..SMALL });
        for pair in &train {
            let n = |range: std::ops::Range<usize>| pair.target[range].parse::<u32>().unwrap_or(0);
            let (year, month, day) = (n(0..4), n(5..7), n(8..10));
            assert!((1900..2100).contains(&year) && (1..=12).contains(&month), "{}", pair.target);
            assert!(day >= 1 && day <= Date::days_in(year, month), "{}", pair.target);
        }
        assert!(train.iter().any(|p| p.target.ends_with("-02-29")));
        assert!(!train.iter().any(|p| p.target == "1900-02-29"));
    }

    #[test]
    fn validation_texts_do_not_occur_in_training() {
        let (train, dev) = task(&SMALL);
        let train: HashSet<&str> = train.iter().map(|p| p.source.as_str()).collect();
        assert!(dev.iter().all(|p| !train.contains(p.source.as_str())));
    }

    #[test]
    fn the_task_is_the_same_for_the_same_seed_and_another_for_another() {
        assert_eq!(task(&SMALL), task(&SMALL));
        assert_ne!(task(&SMALL).0, task(&DatesTask { seed: 2, ..SMALL }).0);
    }

    #[test]
    fn weekdays_are_those_of_the_calendar() {
        let day = |year, month, day| WEEKDAYS[Date { year, month, day }.weekday()];
        assert_eq!(day(1969, 7, 20), "Sunday");
        assert_eq!(day(2000, 2, 29), "Tuesday");
        assert_eq!(day(1900, 1, 1), "Monday");
        assert_eq!(day(2099, 12, 31), "Thursday");
    }

    #[test]
    fn ordinals_are_spelled_right() {
        let all: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31].map(ordinal).into();
        assert_eq!(all.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th 31st");
    }
}
