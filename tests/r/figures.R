# The figures of analytics/estimates as R computes them, from times.csv, counts.csv and values.csv beside this file.
# Rscript tests/r/figures.R > tests/r/figures.csv     (packages survival and prodlim)
suppressPackageStartupMessages({library(survival); library(prodlim)})
folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
read <- function(name) read.csv(file.path(folder, name), stringsAsFactors = FALSE)
versions <- sapply(c("survival", "prodlim"), function(name) paste(name, packageVersion(name)))
cat("#", R.version.string, versions, sep = "; ", "\n")
cat("kind,case,name,at,value\n")
put <- function(kind, case, name, at, value) {
  shown <- ifelse(is.na(value) | is.infinite(value), "", sprintf("%.15g", value))
  cat(sprintf("%s,%s,%s,%s,%s\n", kind, case, name, ifelse(is.na(at), "", sprintf("%.15g", at)), shown), sep = "")
}

times <- read("times.csv")
for (case in unique(times$case)) {
  rows <- times[times$case == case, ]
  for (level in c(0.9, 0.95)) {
    fit <- survfit(Surv(months, event) ~ 1, data = rows, conf.type = "log-log", conf.int = level)
    name <- function(part) paste(part, level)
    put("curve", case, name("s"), fit$time, fit$surv)
    put("curve", case, name("low"), fit$time, fit$lower)
    put("curve", case, name("high"), fit$time, fit$upper)
    # As print() has it. quantile() differs where S stays at one half up to the last time: it takes that for the end of
    # a plateau, and print() gives its beginning.
    half <- summary(fit)$table
    put("median", case, name("median"), NA, half[["median"]])
    put("median", case, name("low"), NA, half[[paste0(level, "LCL")]])
    put("median", case, name("high"), NA, half[[paste0(level, "UCL")]])
    marks <- summary(fit, times = c(6, 12, 24), extend = TRUE)
    put("landmark", case, name("s"), marks$time, marks$surv)
    put("landmark", case, name("at_risk"), marks$time, marks$n.risk)
  }
  # The time to the end of follow-up. quantile() of prodlim names what is left after a quarter, a half ... has ended.
  if (all(rows$event == 1) || all(rows$event == 0)) next  # which prodlim refuses
  reverse <- prodlim(Hist(months, event) ~ 1, data = rows, reverse = TRUE)
  for (share in c(0.75, 0.5, 0.25)) {
    reached <- reverse$time[reverse$surv <= share + 1e-9]
    put("follow-up", case, paste("left", share), NA, if (length(reached)) min(reached) else NA)
  }
}

counts <- read("counts.csv")
for (i in seq_len(nrow(counts))) with(counts[i, ], {
  case <- paste(x, "of", n)
  limits <- list(
    "clopper-pearson" = binom.test(x, n, conf.level = level)$conf.int,
    "wilson" = suppressWarnings(prop.test(x, n, conf.level = level, correct = FALSE))$conf.int,
    "jeffreys" = c(if (x == 0) 0 else qbeta((1 - level) / 2, x + 0.5, n - x + 0.5),
                   if (x == n) 1 else qbeta((1 + level) / 2, x + 0.5, n - x + 0.5))
  )
  for (method in names(limits)) {
    put("proportion", case, paste(method, "low"), level, limits[[method]][1])
    put("proportion", case, paste(method, "high"), level, limits[[method]][2])
  }
  put("test", case, "p", null_rate, binom.test(x, n, null_rate, alternative = "greater")$p.value)
})

values <- read("values.csv")
for (case in unique(values$case)) {
  of_case <- values$value[values$case == case]
  put("quantile", case, "type 7", c(0.25, 0.5, 0.75), quantile(of_case, c(0.25, 0.5, 0.75), type = 7))
}
