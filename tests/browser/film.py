"""The README's recording: what the browser shows at each click, as an animated picture."""

from io import BytesIO

from helpers import IMAGES
from PIL import Image

SIZE = {"width": 1000, "height": 640}
MOST_BYTES = 2_000_000
# How long a page is shown, and the ring around what is clicked next, in milliseconds.
PAGE_MS, RING_MS = 2400, 1100
MARK = """([caption, at]) => {
  document.getElementById("film")?.remove();
  const film = document.createElement("div");
  film.id = "film";
  const show = (text, style) => {
    const box = document.createElement("div");
    box.textContent = text;
    Object.assign(box.style, { position: "fixed", zIndex: 99, pointerEvents: "none", ...style });
    film.append(box);
  };
  show(caption, { left: "50%", bottom: "18px", transform: "translateX(-50%)", padding: "8px 18px", borderRadius: "20px", background: "#111c",
    border: "1px solid #fff6", color: "#fff", font: "600 17px Inter, sans-serif" });
  if (at) show("", { left: `${at.x - 9}px`, top: `${at.y - 9}px`, width: `${at.width + 18}px`, height: `${at.height + 18}px`,
    border: "4px solid #f60", borderRadius: "14px" });
  document.body.append(film);
}"""


class Film:
    """Frames of one page, in one colour scheme; none where `on` is false."""

    def __init__(self, page, on):
        self.page, self.on, self.frames = page, on, []
        if on:
            page.set_viewport_size(SIZE)

    def show(self, caption, clicked):
        """The page as it is, then with a ring around what is clicked next, if anything is."""
        if not self.on:
            return
        if clicked is None:
            self._take(caption, None, PAGE_MS + RING_MS)
            return
        clicked.evaluate("element => element.scrollIntoView({ block: 'center', inline: 'center' })")
        self._take(caption, None, PAGE_MS)
        self._take(caption, clicked.bounding_box(), RING_MS)

    def _take(self, caption, at, milliseconds):
        self.page.mouse.move(0, 0)
        self.page.evaluate(MARK, [caption, at])
        picture = Image.open(BytesIO(self.page.screenshot())).convert("RGB")
        self.page.evaluate("document.getElementById('film').remove()")
        self.frames.append((picture, milliseconds))

    def write(self, name):
        if not self.on:
            return
        (first, *rest), durations = zip(*self.frames, strict=True)
        path = IMAGES / f"{name}.webp"
        first.save(path, save_all=True, append_images=rest, duration=list(durations), loop=0, quality=80, method=6)
        assert path.stat().st_size < MOST_BYTES, path.stat().st_size
