package android.graphics;

import java.nio.ByteBuffer;

/** A stand-in, for tests only. format: a number of the NDK; pixels: null where the bitmap is recycled. */
public final class Bitmap {
    public int width;
    public int height;
    public int stride;
    public int format;
    public int locks;
    public ByteBuffer pixels;

    public enum Config { RGB_565, ARGB_8888, HARDWARE }

    public boolean isRecycled() {
        return pixels == null;
    }

    /** A format that is neither is what says ARGB_8888 to Java and something else to the NDK. */
    public Config getConfig() {
        return format == 4 ? Config.RGB_565 : Config.ARGB_8888;
    }
}
