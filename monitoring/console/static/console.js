// Keeps the overview's figures up from server-sent events. Pages work without it.
"use strict";

const house = document.querySelector("[data-live-url]");
if (house) {
  const known = house.dataset.liveLedgers;
  const number = new Intl.NumberFormat("en-US");
  const at = (figures, path) => path.split(".").reduce((value, key) => value?.[key], figures);
  const text = (value) =>
    typeof value === "number" ? number.format(value) : Array.isArray(value) ? value.join(", ") : value;
  const written = (value) => {
    const moment = new Date(value);
    return isNaN(moment)
      ? value
      : moment.toLocaleString("en-GB", {
          timeZone: "UTC", day: "numeric", month: "short", year: "numeric",
          hour: "2-digit", minute: "2-digit", second: "2-digit",
        }).replaceAll(" ", "\u00a0").replace(",\u00a0", ", ") + "\u00a0UTC";
  };

  const show = (figures) => {
    for (const banner of document.querySelectorAll("[data-live-show]")) {
      banner.hidden = !(banner.dataset.liveShow === "away" ? figures.is_away : figures.blocked_by?.length);
    }
    if (figures.is_away) return;
    if (Object.keys(figures.ledgers).join(" ") !== known) return location.reload();
    figures.blocked = figures.blocked_by;
    figures.updated_at = figures.updated_at && written(figures.updated_at);
    for (const place of document.querySelectorAll("[data-live]")) {
      const value = text(at(figures, place.dataset.live));
      if (value === undefined || value === null || place.textContent === value) continue;
      place.textContent = value;
      place.classList.remove("moved");
      void place.offsetWidth; // restarts the animation
      place.classList.add("moved");
    }
    for (const place of document.querySelectorAll("[data-lag]")) {
      const behind = (at(figures, place.dataset.of) ?? 0) - (at(figures, place.dataset.lag) ?? 0);
      place.textContent = behind > 0 ? "−" + number.format(behind) : "level";
      place.classList.toggle("level", behind <= 0);
    }
  };

  const source = new EventSource(house.dataset.liveUrl);
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.addEventListener("ended", () => {
    source.close();
    location.reload();
  });
}
